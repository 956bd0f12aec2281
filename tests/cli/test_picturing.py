"""`d2serve graph` and `d2serve inspect --graph`."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch
from torch import nn
from typer.testing import CliRunner, Result

from d2serve.cli.app import app
from d2serve.handlers.bundle import read_bundled_spec
from tests.cli.small_archives import small_archive
from tests.conftest import Exporter, config_of


def run(*words: str) -> Result:
    return CliRunner().invoke(app, list(words), env={"COLUMNS": "200"})


def _title(file: Path) -> str:
    root = ElementTree.fromstring(file.read_text(encoding="utf-8"))
    return root.findtext("{http://www.w3.org/2000/svg}title") or ""


def _note(file: Path) -> str:
    texts = ElementTree.fromstring(file.read_text(encoding="utf-8")).iter(
        "{http://www.w3.org/2000/svg}text"
    )
    return " ".join(text.text or "" for text in texts)


def test_a_configs_model_is_drawn_with_the_share_of_the_time(tmp_path: Path) -> None:
    drawn = tmp_path / "drawn.svg"
    imports = ("--import", "examples.shapes.dataset")
    result = run("graph", str(config_of("retinanet")), *imports, "--output", str(drawn))
    assert result.exit_code == 0, result.output
    assert f"Wrote {drawn}" in result.output
    assert _title(drawn) == "retinanet"
    shown = _note(drawn)
    assert "share of the time" in shown
    assert "random weights" not in shown
    assert "cls_subnet" in shown


def test_weights_are_not_needed(tmp_path: Path) -> None:
    drawn = tmp_path / "drawn.svg"
    words = ("--import", "examples.shapes.dataset", "--output", str(drawn))
    result = run("graph", str(config_of("rpn_fpn")), "MODEL.WEIGHTS", "", *words)
    assert result.exit_code == 0, result.output
    assert "with random weights" in _note(drawn)


def test_what_cannot_be_drawn_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "x.onnx").write_text("no program")
    target = tmp_path / "out" / "x.svg"
    target.parent.mkdir()
    target.write_text("an older picture")
    result = run("graph", str(tmp_path / "x.onnx"), "--output", str(target))
    assert result.exit_code == 1
    assert "x.onnx is no ONNX file, or damaged" in result.stderr
    assert target.read_text() == "an older picture"
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.parametrize("output", ["x.png", "none/x.svg"])
def test_a_path_that_cannot_be_written_is_said(output: str, tmp_path: Path) -> None:
    torch.jit.script(nn.Conv2d(3, 4, 3)).save(str(tmp_path / "x.pt"))  # type: ignore[no-untyped-call]
    result = run("graph", str(tmp_path / "x.pt"), "--output", str(tmp_path / output))
    assert result.exit_code == 1
    said = "does not end in .svg" if output == "x.png" else "cannot be written (No such file"
    assert said in result.stderr
    assert sorted(each.name for each in tmp_path.iterdir()) == ["x.pt"]


def test_an_archive_has_its_picture_in_it(exported: Exporter, tmp_path: Path) -> None:
    archive = exported("mask_rcnn_fpn", "onnxruntime")
    drawn = tmp_path / "drawn.svg"
    result = run("inspect", str(archive), "--graph", str(drawn))
    assert result.exit_code == 0, result.output
    assert f"Wrote {drawn}" in result.output
    assert "model.svg, " in result.output
    with zipfile.ZipFile(archive) as opened:
        assert drawn.read_bytes() == opened.read("model.svg")
    assert "model.svg" not in read_bundled_spec(archive).sha256
    assert _title(drawn) == "mask_rcnn_fpn_onnxruntime"
    shown = _note(drawn)
    assert "Mask R-CNN FPN" in shown
    assert "share of the multiply-adds" in shown, "no two exports measure the same time"
    assert "2.17 M weights" in shown


@pytest.mark.parametrize("kind", ["onnxruntime", "tracing"])
def test_of_an_older_archive_the_program_is_drawn(
    kind: str, exported: Exporter, tmp_path: Path
) -> None:
    older = tmp_path / "older"
    with zipfile.ZipFile(exported("mask_rcnn_fpn", kind)) as opened:
        opened.extractall(older)
    (older / "model.svg").unlink()
    shutil.make_archive(str(older), "zip", older)
    archive = older.with_suffix(".zip").rename(tmp_path / "older.mar")
    drawn = tmp_path / "drawn.svg"
    result = run("inspect", str(archive), "--graph", str(drawn))
    assert result.exit_code == 0, result.output
    assert "has no picture: this one is drawn from" in result.stderr
    assert "mask_head" in _note(drawn)
    assert "picture" in result.output


def test_an_older_archive_whose_program_cannot_be_read(tmp_path: Path) -> None:
    archive = small_archive(tmp_path / "x.mar")
    result = run("inspect", str(archive), "--graph", str(tmp_path / "x.svg"))
    assert result.exit_code == 1
    assert not (tmp_path / "x.svg").exists()
    assert "is no TorchScript program" in result.stderr
