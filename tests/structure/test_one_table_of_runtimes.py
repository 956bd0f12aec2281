"""A runtime is entered in one place, the table, and is known everywhere from there."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from d2serve.export.archive.staging import staging
from d2serve.export.doctor import examine
from d2serve.export.errors import ConfigError
from d2serve.export.programs import building
from d2serve.export.programs.building import Order, write_program
from d2serve.export.programs.program import Program
from d2serve.export.reading.config import ConfigSource
from d2serve.export.request import ExportRequest
from d2serve.handlers.digests import sha256_of
from d2serve.handlers.errors import LoadError, SpecError
from d2serve.handlers.oip.metadata import describe
from d2serve.handlers.runtimes.loading import load_runtime
from d2serve.handlers.spec.bounds import Bounds
from d2serve.handlers.spec.model_spec import ModelSpec
from d2serve.handlers.spec.runtimes import RUNTIMES, RuntimeFacts
from tests.conftest import ROOT, config_of
from tests.handlers.samples import spec_with
from tests.ways import installed

MADE_UP = RuntimeFacts(
    name="abacus",
    title="Abacus",
    format="beads",
    module="tests.structure.abacus",
    package="wire_and_beads",
    export_extra="export-abacus",
    export_packages=("numpy",),
    main_file="model.beads",
    platform="abacus_beads",
    methods=("scripting",),
    batching_methods=("scripting",),
    joining_methods=(),
    precisions=("fp32", "fp4"),
    runs_on_gpu=False,
    needs_torch=False,
    bounds=Bounds(1.0, 0.1, 1.0, 0.9, 0, 0.1),
    frozen_file="model.ice",
    frozen_platform="abacus_icicles",
)


@pytest.fixture(autouse=True)
def _entered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(RUNTIMES, MADE_UP.name, MADE_UP)


def spec(**changes: Any) -> ModelSpec:
    made = {"runtime": "abacus", "precision": "fp4", "program": "model.beads", **changes}
    return spec_with(sha256={"model.beads": "0" * 64}, **made)


def test_its_program_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model.beads").write_bytes(b"")
    described = replace(spec(), sha256={"model.beads": sha256_of(tmp_path / "model.beads")})
    with pytest.raises(LoadError, match=r"needs the runtime Abacus.*'d2serve\[abacus\]'"):
        load_runtime(tmp_path, described, "cpu")
    module = ModuleType(MADE_UP.module)
    monkeypatch.setattr(module, "load", lambda *arguments: arguments, raising=False)
    monkeypatch.setitem(sys.modules, MADE_UP.module, module)
    loaded: Any = load_runtime(tmp_path, described, "cpu", 3)
    assert loaded == (tmp_path / "model.beads", described, "cpu", 3)


def test_a_spec_may_name_it_and_its_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ModelSpec.from_json(spec().to_json()) == spec()
    monkeypatch.delitem(RUNTIMES, "abacus")
    with pytest.raises(SpecError, match=r"runtime is 'abacus'.*precision is 'fp4'"):
        ModelSpec.from_json(spec().to_json())


def test_its_programs_may_be_made_from_another_format() -> None:
    assert MADE_UP.way("scripting") == "beads"
    assert replace(MADE_UP, made_from="onnx").way("scripting") == "onnx"


def test_the_metadata_names_its_platform() -> None:
    assert json.loads(describe(spec(), "m", "1"))["platform"] == "abacus_beads"
    frozen = spec_with(runtime="abacus", program="model.ice", sha256={"model.ice": ""})
    assert json.loads(describe(frozen, "m", "1"))["platform"] == "abacus_icicles"


def request(**options: Any) -> ExportRequest:
    made = {"method": "scripting", "name": "m", "format": "beads", "precision": "fp4", **options}
    return ExportRequest(ConfigSource("config.yaml"), **made)


def test_a_request_may_ask_for_it() -> None:
    asked = request()
    asked.check()
    assert asked.chosen_runtime == "abacus"
    with pytest.raises(ConfigError, match=r"--format beads goes through scripting, got .* tracing"):
        request(method="tracing").check()
    with pytest.raises(ConfigError, match=r"fp4 is there for Abacus only.*--runtime abacus"):
        request(format="torchscript").check()


def test_the_doctor_says_what_it_does() -> None:
    findings = examine(ConfigSource(str(config_of("faster_rcnn_fpn")))).findings
    (found,) = (each for each in findings if each.runtime == "abacus")
    assert (found.method, found.format) == ("scripting", "beads")
    assert "pip install 'd2serve[export-abacus]'" in str(found.refusal)


def test_its_builder_is_asked_for_its_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Program(tmp_path / MADE_UP.main_file, ("scores",), (), ())
    monkeypatch.setitem(building.BUILDERS, "abacus", lambda *_arguments: made)
    nothing: Any = None
    assert write_program(Order(request(), nothing, nothing, nothing, tmp_path, {})) is made


@pytest.mark.parametrize("needs_torch", [False, True])
def test_an_archive_has_a_stand_in_for_torch_unless_it_needs_torch(
    needs_torch: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(RUNTIMES, "abacus", replace(MADE_UP, needs_torch=needs_torch))
    program = tmp_path / "model.beads"
    program.write_bytes(b"beads")
    with staging("m", "1.0") as stage:
        stage.describe([program], spec(), {})
        with zipfile.ZipFile(stage.pack()) as packed:
            assert ("torch.py" in packed.namelist()) != needs_torch


def test_the_command_line_names_it() -> None:
    """The help is made when the command line is imported, so in a new process."""
    code = f"""
import numpy
from d2serve.handlers.spec.bounds import Bounds
from d2serve.handlers.spec.runtimes import RUNTIMES, RuntimeFacts
RUNTIMES["abacus"] = {MADE_UP!r}
from d2serve.cli.app import main
main()
"""
    told = subprocess.run(
        [sys.executable, "-c", code, "export", "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env={"COLUMNS": "200", "PATH": "", "TERM": "dumb"},
    ).stdout
    assert " or beads" in told
    assert "fp4 for Abacus" in told
    assert "weights as constants (TensorFlow or Abacus only)" in told


@pytest.mark.parametrize("name", installed(RUNTIMES))
def test_what_the_table_says_of_a_runtime_is_there(name: str) -> None:
    """Extras and packages are named as text; here they meet what they name."""
    import importlib

    import tomllib

    facts = RUNTIMES[name]
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert {facts.name, facts.export_extra} <= set(extras["optional-dependencies"])
    assert callable(importlib.import_module(facts.module).load)
    for package in (facts.package, *facts.export_packages):
        assert importlib.import_module(package).__version__
    assert name in building.BUILDERS
    assert {*facts.batching_methods, *facts.joining_methods} <= set(facts.methods)
    assert np.isfinite(facts.bounds.box_px)
