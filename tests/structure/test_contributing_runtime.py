"""CONTRIBUTING's list "Add a runtime" is complete, and is true of every runtime that is there."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

from benchmarks.gpu.plan import FORMS
from d2serve.export.programs.building import BUILDERS
from d2serve.handlers.spec.runtimes import RUNTIMES, TORCHSCRIPT
from tests.conftest import ROOT
from tests.ways import IN_THE_GATE, METHODS, installed

SHIPPED = ("handlers", "export", "client", "server", "cli")
# Where one runtime's own things are done: its module, its program, its precisions, and the way of
# programs that were made elsewhere.
OWN = (
    "handlers/runtimes/",
    "export/programs/",
    "export/precision/",
    "export/from_caffe2.py",
    "export/picture/readers/",
)


def listed() -> list[str]:
    """The paths that CONTRIBUTING names for a runtime, as they are written."""
    text = (ROOT / "CONTRIBUTING.md").read_text()
    section = text.split("## Add a runtime\n")[1].split("\n## ")[0]
    return [name for name in re.findall(r"`([\w./]+)`", section) if "/" in name]


def test_every_place_is_there() -> None:
    assert len(listed()) >= 9
    assert [place for place in listed() if not (ROOT / place).exists()] == []


def named_in(source: Path) -> Iterator[str]:
    """Runtimes that a module's code names, but for TorchScript, which is the default format."""
    constants = {name.upper(): name for name in RUNTIMES if name != TORCHSCRIPT}
    for node in ast.walk(ast.parse(source.read_text())):
        if isinstance(node, ast.Name) and node.id in constants:
            yield constants[node.id]
        elif isinstance(node, ast.alias) and node.name in constants:
            yield constants[node.name]
        elif isinstance(node, ast.Constant) and node.value in constants.values():
            yield str(node.value)


def test_no_other_source_names_a_runtime() -> None:
    naming = {
        str(file.relative_to(ROOT))
        for room in SHIPPED
        for file in (ROOT / room).rglob("*.py")
        if set(named_in(file))
    }
    assert "export/programs/building.py" in naming
    elsewhere = {file for file in naming if not file.startswith(OWN)}
    assert elsewhere == {"handlers/spec/runtimes.py"}


@pytest.mark.parametrize("name", installed(RUNTIMES))
def test_a_runtime_is_in_every_place(name: str) -> None:
    facts = RUNTIMES[name]
    assert callable(import_module(facts.module).load)
    assert facts.module.rpartition(".")[0] == "d2serve.handlers.runtimes"
    assert (ROOT / "handlers" / "runtimes" / f"{facts.module.rpartition('.')[2]}.py").is_file()
    assert name in BUILDERS
    assert f"\n{name} = [" in (ROOT / "pyproject.toml").read_text()
    assert f"\n{facts.export_extra} = [" in (ROOT / "pyproject.toml").read_text()
    asked = {kind for kinds in IN_THE_GATE.values() for kind in kinds}
    own = {name, *(facts.methods if name == TORCHSCRIPT else ())}
    assert asked & own or (facts.needs_gpu and own & {*FORMS})
    assert asked <= {*METHODS, *RUNTIMES}
    assert facts.title in (ROOT / "docs" / "runtimes.md").read_text()
    sources = [file.read_text() for file in (ROOT / "tests/handlers/runtimes").glob("test_*.py")]
    assert any(facts.module in text or f"import {name} as" in text for text in sources)
