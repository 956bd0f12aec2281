"""``d2serve diff`` on real archives: what differs is named and drawn, and what agrees is not."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps
from typer.testing import CliRunner, Result

from d2serve.cli.app import app
from d2serve.export.proof.differences.panels import ARCHIVE, BOTH, EAGER
from d2serve.handlers.spec.model_spec import SPEC_FILE
from tests.conftest import ROOT, Exporter
from tests.exports import config_of

OTHER_INPUT = ("MODEL.PIXEL_MEAN", "[100.0,112.0,126.0]")
"""Of the config alone: eager then answers otherwise, in every field."""


def run(archive: Path, model: str, *words: str | Path) -> Result:
    given = (archive, "--config-file", config_of(model), "--import", "examples.shapes.dataset")
    return CliRunner().invoke(app, ["diff", *map(str, (*given, *words))], env={"COLUMNS": "200"})


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two images in which much is found: a sample, and what one sees in a mirror."""
    folder = tmp_path_factory.mktemp("few")
    sample = Image.open(ROOT / "examples" / "shapes" / "sample.jpg")
    sample.save(folder / "sample.png")
    ImageOps.mirror(sample).save(folder / "mirrored.png")
    return folder


def with_spec(archive: Path, tampered: Path, **changes: object) -> Path:
    """A copy of an archive whose spec was edited."""
    with zipfile.ZipFile(archive) as source, zipfile.ZipFile(tampered, "w") as target:
        for each in source.infolist():
            content = source.read(each)
            if each.filename == SPEC_FILE:
                content = json.dumps({**json.loads(content), **changes}).encode()
            target.writestr(each.filename, content)
    return tampered


def pixels_of(picture: Path, *colours: tuple[int, int, int]) -> int:
    """Of a colour, or nearly, in what shows where they differ: classes have colours like these."""
    page = np.asarray(Image.open(picture).convert("RGB")).astype(int)
    part = page[80:, 2 * page.shape[1] // 3 + 10 :]
    return sum(int((np.abs(part - colour).max(axis=2) < 60).sum()) for colour in colours)


def test_an_archive_with_other_thresholds(exported: Exporter, few: Path, tmp_path: Path) -> None:
    archive = exported("mask_rcnn_fpn", "tracing")
    other = with_spec(archive, tmp_path / "other.mar", mask_threshold=0.7)
    drawn = tmp_path / "drawn"
    result = run(other, "mask_rcnn_fpn", "--images", few, "--output", drawn)
    assert result.exit_code == 1, result.output
    assert ": the mask of instance " in result.stdout
    assert "2 of 2 images differ." in result.stdout
    assert len([*drawn.iterdir()]) == 2
    assert all(pixels_of(each, EAGER) > 200 for each in drawn.iterdir())
    assert not any(pixels_of(each, ARCHIVE) > 200 for each in drawn.iterdir())


@pytest.mark.long
def test_an_archive_that_agrees(exported: Exporter, few: Path, tmp_path: Path) -> None:
    archive, drawn = exported("mask_rcnn_fpn", "onnxruntime"), tmp_path / "drawn"
    result = run(archive, "mask_rcnn_fpn", "--images", few, "--output", drawn)
    assert result.exit_code == 0, result.output
    assert "Nothing differs beyond the bounds of `d2serve verify` on 2 images." in result.stdout
    assert not drawn.exists()
    worst = ("--worst", "1", "--output", drawn)
    result = run(archive, "mask_rcnn_fpn", "--images", few, *worst)
    assert result.exit_code == 0, result.output
    assert len([*drawn.iterdir()]) == 1


@pytest.mark.long
@pytest.mark.parametrize(
    ("model", "said", "colours"),
    [
        ("keypoint_rcnn_fpn", ("keypoint", "box", "instance"), (EAGER, ARCHIVE)),
        ("semantic_fpn", ("sem_seg in",), (BOTH,)),
        ("panoptic_fpn", ("panoptic_seg in", "sem_seg in", "instance"), (BOTH,)),
        ("rotated_faster_rcnn_fpn", ("box of instance", "instance"), (EAGER, ARCHIVE)),
        ("rpn_fpn", ("proposal",), (EAGER, ARCHIVE)),
    ],
)
def test_every_kind_of_answer_is_drawn(
    model: str,
    said: tuple[str, ...],
    colours: tuple[tuple[int, int, int], ...],
    exported: Exporter,
    few: Path,
    tmp_path: Path,
) -> None:
    archive, drawn = exported(model, "tracing"), tmp_path / "drawn"
    result = run(archive, model, "--images", few, "--output", drawn, *OTHER_INPUT)
    assert result.exit_code == 1, result.output
    assert any(f": {each}" in result.stdout or each in result.stdout for each in said)
    assert "not of" in result.stdout, "the config is another than that of the archive"
    assert len([*drawn.iterdir()]) == 2
    assert all(pixels_of(each, *colours) > 100 for each in drawn.iterdir())
