"""The whole export, in its ways to succeed and to refuse."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from d2serve.export import pipeline
from d2serve.export.archive.opening import opened
from d2serve.export.errors import ConfigError, ExportError, ProgramError, VerificationError
from d2serve.export.pipeline import export
from d2serve.export.programs.building import Order, write_program
from d2serve.export.programs.program import Program
from d2serve.export.reading.config import ConfigSource
from d2serve.export.request import ExportRequest, Progress
from d2serve.export.result import ExportResult
from d2serve.handlers.digests import sha256_of
from d2serve.handlers.spec.model_spec import read_spec
from tests.export.conftest import write_tiny_config

QUIET = Progress(lambda _step, _parts: None, lambda: None)
CUSTOM = ("tests.export.custom_modules",)

pytestmark = pytest.mark.export


def _export(
    config: Path,
    store: Path,
    method: str,
    overrides: Sequence[str] = (),
    imports: Sequence[str] = (),
    **options: Any,
) -> ExportResult:
    source = ConfigSource(str(config), overrides, imports)
    request = ExportRequest(source, method, "tiny", output=store, **options)
    return export(request, QUIET)


@pytest.fixture(scope="module")
def custom_config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import tests.export.custom_modules  # noqa: F401  registers the backbones

    return write_tiny_config(
        tmp_path_factory.mktemp("custom"),
        *("MODEL.BACKBONE.NAME", "build_PlainBackbone"),
        *("MODEL.RPN.IN_FEATURES", ["res4"], "MODEL.ROI_HEADS.IN_FEATURES", ["res4"]),
        *("MODEL.ANCHOR_GENERATOR.SIZES", [[32, 64]]),
    )


def _using(backbone: str) -> list[str]:
    return ["MODEL.BACKBONE.NAME", f"build_{backbone}"]


@pytest.mark.parametrize("method", ["tracing", "scripting"])
def test_the_archive_holds_what_the_design_says(
    method: str, tiny_config: Path, tmp_path: Path
) -> None:
    result = _export(tiny_config, tmp_path, method, class_names=("a", "b", "c"))
    assert result.archive == tmp_path / "tiny.mar"
    assert [file.name for file in tmp_path.iterdir()] == ["tiny.mar"]
    with opened(result.archive) as contents:
        manifest = json.loads((contents / "MAR-INF" / "MANIFEST.json").read_text())
        assert manifest["model"]["handler"] == "detection_handler.py"
        assert manifest["model"]["serializedFile"] == "model.pt"
        assert manifest["model"]["configFile"] == "model-config.yaml"
        assert (contents / "d2serve" / "handlers" / "detector.py").is_file()
        assert not list(contents.rglob("__pycache__"))
        spec = read_spec(contents)
        assert spec.sha256 == {"model.pt": sha256_of(contents / "model.pt")}
    assert spec == result.spec
    assert spec.dynamic_batch == (method == "scripting")
    assert spec.class_names == ("a", "b", "c")
    assert (spec.min_size_test, spec.max_size_test) == (96, 160)
    assert spec.versions["torch"] == torch.__version__
    differences = spec.verification["differences"]
    assert len({(d["height"], d["width"]) for d in differences}) >= 5
    assert sum(d["detections"] for d in differences) > 50
    batches = {d["image"].split(":")[0] for d in differences if ":" in d["image"]}
    expected = {"batch of 1", "batch of 2", "batch of 5"} if method == "scripting" else set()
    assert batches == expected


def test_torch_model_archiver_makes_the_same_layout(tiny_config: Path, tmp_path: Path) -> None:
    result = _export(tiny_config, tmp_path / "store", "tracing")
    with opened(result.archive) as ours:
        extra = tmp_path / "extra"
        extra.mkdir()
        (ours / "d2serve").rename(extra / "d2serve")
        for beside in ("model_spec.json", "model.svg"):
            (ours / beside).rename(extra / beside)
        subprocess.run(
            [
                *(sys.executable, "-m", "model_archiver.model_packaging", "--model-name", "again"),
                *("--version", "1.0", "--serialized-file", str(ours / "model.pt")),
                *("--handler", str(ours / "detection_handler.py"), "--extra-files", str(extra)),
                *("--config-file", str(ours / "model-config.yaml")),
                *("--export-path", str(tmp_path)),
            ],
            check=True,
            env={"TMPDIR": str(tmp_path), "PATH": ""},
        )
    with opened(tmp_path / "again.mar") as again, opened(result.archive) as ours:
        theirs = {str(p.relative_to(again)): p for p in again.rglob("*") if p.is_file()}
        mine = {str(p.relative_to(ours)): p for p in ours.rglob("*") if p.is_file()}
        assert theirs.keys() == mine.keys()
        for name, path in mine.items():
            if not name.endswith("MANIFEST.json"):  # has the name and the time in it
                assert path.read_bytes() == theirs[name].read_bytes(), name


@pytest.mark.parametrize("method", ["tracing", pytest.param("scripting", marks=pytest.mark.long)])
def test_a_registered_backbone_of_the_users_own_works(
    method: str, custom_config: Path, tmp_path: Path
) -> None:
    result = _export(custom_config, tmp_path, method, imports=CUSTOM)
    assert result.spec.family == "Faster R-CNN on PlainBackbone"
    assert result.verification.detections > 50


@pytest.mark.parametrize(
    ("backbone", "method", "error", "line"),
    [
        ("UnscriptableBackbone", "scripting", ProgramError, "the refused line"),
        ("RaisingBackbone", "tracing", ProgramError, "the raising line"),
        ("UntraceableBackbone", "tracing", VerificationError, "becomes a constant in a trace"),
    ],
)
def test_what_torchscript_refuses_is_named_with_its_line(
    backbone: str,
    method: str,
    error: type[ExportError],
    line: str,
    custom_config: Path,
    tmp_path: Path,
) -> None:
    source = Path("tests/export/custom_modules.py")
    number = next(
        n for n, text in enumerate(source.read_text().splitlines(), 1) if f"# {line}" in text
    )
    with pytest.raises(error) as caught:
        _export(
            custom_config,
            tmp_path,
            method,
            imports=CUSTOM,
            overrides=_using(backbone),
        )
    assert f"custom_modules.py:{number}" in str(caught.value)
    assert "--export-method" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "options", [{}, {"format": "onnx"}, {"format": "onnx", "runtime": "openvino"}]
)
def test_a_program_that_answers_otherwise_is_not_written(
    options: dict[str, Any], tiny_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = write_program

    def shifted(order: Order) -> Program:
        model: Any = order.model
        with torch.no_grad():
            model.roi_heads.box_predictor.bbox_pred.bias.add_(0.01)
        return honest(order)

    older = tmp_path / "tiny.mar"
    older.write_bytes(b"an older archive")
    monkeypatch.setattr(pipeline, "write_program", shifted)
    with pytest.raises(
        VerificationError, match=r"sample \(480x640\): .*Nothing was written"
    ) as failed:
        _export(tiny_config, tmp_path, "tracing", **options)
    pictures = re.search(r"Pictures of where they differ, .*, are in (\S+)", str(failed.value))
    assert pictures is not None
    assert len([*Path(pictures[1]).glob("*.png")]) == 3
    shutil.rmtree(pictures[1])
    assert older.read_bytes() == b"an older archive"
    assert [file.name for file in tmp_path.iterdir()] == ["tiny.mar"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "a/b"}, "--name is 'a/b'"),
        ({"method": "caffe2"}, "expected one of tracing, scripting"),
        ({"sample_image": Path("pyproject.toml")}, "--sample-image"),
        ({"overrides": ["MODEL.ROI_HEADS.SCORE_THRESH_TEST", "1.0"]}, "finds nothing"),
    ],
)
def test_a_mistake_in_the_request_is_named(
    options: dict[str, Any], message: str, tiny_config: Path, tmp_path: Path
) -> None:
    overrides = options.pop("overrides", ())
    source = ConfigSource(str(tiny_config), overrides)
    values = {"source": source, "method": "tracing", "name": "tiny", **options}
    with pytest.raises(ExportError, match=message):
        export(ExportRequest(**values, output=tmp_path / "store"), QUIET)
    assert not (tmp_path / "store").exists()


def test_a_store_that_cannot_be_written_is_named(tiny_config: Path, tmp_path: Path) -> None:
    blocked = tmp_path / "store"
    blocked.write_text("a file where the store should be")
    with pytest.raises(ExportError, match=r"store cannot be written to \(Not a directory\)"):
        _export(tiny_config, blocked, "tracing")


def test_the_names_error_is_a_config_error(tiny_config: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="1 names, the model has 3 classes"):
        _export(tiny_config, tmp_path, "tracing", class_names=("one",))
