"""Whatever is broken in annotations: one sentence names it, before any image is answered."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner

from d2serve.cli.app import app
from tests.conftest import Exporter, config_of

Case = tuple[Callable[[dict[str, Any]], Any], str]
"""Changes annotations that fit, in place or to something else, and a pattern for the message."""

MODEL = "faster_rcnn_fpn"
NAMES = ("circle", "rectangle", "triangle")


def fitting() -> dict[str, Any]:
    """Annotations of one image, of the model's own categories."""
    return {
        "images": [{"id": 1, "file_name": "a.png", "height": 90, "width": 120}],
        "categories": [{"id": n, "name": name} for n, name in enumerate(NAMES)],
        "annotations": [
            {
                "id": 1,
                "image_id": 1,
                "category_id": 0,
                "iscrowd": 0,
                "area": 400.0,
                "bbox": [10.0, 10.0, 20.0, 20.0],
            }
        ],
    }


def _set(**values: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda coco: {**coco, **values}


def _without(key: str) -> Callable[[dict[str, Any]], Any]:
    return lambda coco: {name: value for name, value in coco.items() if name != key}


def _annotation(**values: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda coco: {**coco, "annotations": [{**coco["annotations"][0], **values}]}


CASES: dict[str, Case] = {
    "list": (lambda _coco: [1, 2], r"broken\.json"),
    "number": (lambda _coco: 3, r"broken\.json"),
    "no images": (_without("images"), "images"),
    "images empty": (_set(images=[]), "image"),
    "images of texts": (_set(images=["a.png"]), "image"),
    "image without a name": (_set(images=[{"id": 1, "height": 90, "width": 120}]), "file_name"),
    "no categories": (_without("categories"), "categories"),
    "categories empty": (_set(categories=[]), "categor"),
    "category without a name": (_set(categories=[{"id": 0}]), "name"),
    "of other categories": (
        _set(categories=[{"id": n, "name": name} for n, name in enumerate(("cat", "dog", "cow"))]),
        "cat",
    ),
    "no annotations": (_without("annotations"), "annotations"),
    "of no image": (_annotation(image_id=99), "no annotation"),
    "of no category": (_annotation(category_id=77), "77"),
    "box of three": (_annotation(bbox=[1.0, 2.0, 3.0]), "bbox"),
    "box of texts": (_annotation(bbox=["a", "b", "c", "d"]), "bbox"),
    "image that is not there": (
        _set(images=[{"id": 1, "file_name": "b.png", "height": 90, "width": 120}]),
        r"b\.png",
    ),
}
FILES = {"empty": b"", "no json": b"{'images': []", "noise": bytes(range(256)), "page": b"<html>"}


@pytest.fixture(scope="module")
def archive(exported: Exporter) -> Path:
    """Of a small model."""
    return exported(MODEL, "tracing")


@pytest.mark.parametrize("name", CASES)
def test_broken_annotations_are_named(name: str, archive: Path, tmp_path: Path) -> None:
    change, said = CASES[name]
    _refused(json.dumps(change(fitting())).encode(), said, archive, tmp_path)


@pytest.mark.parametrize("name", FILES)
def test_what_are_no_annotations_is_named(name: str, archive: Path, tmp_path: Path) -> None:
    _refused(FILES[name], r"broken\.json", archive, tmp_path)


@pytest.mark.parametrize("missing", ["--coco-json", "--image-root"])
def test_what_is_not_there_is_named(missing: str, archive: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.json").write_text(json.dumps(fitting()))
    words = {"--coco-json": str(tmp_path / "broken.json"), "--image-root": str(tmp_path)}
    words[missing] = str(tmp_path / "nowhere")
    _told([word for pair in words.items() for word in pair], "nowhere", archive)


def _refused(content: bytes, said: str, archive: Path, folder: Path) -> None:
    (folder / "broken.json").write_bytes(content)
    Image.new("RGB", (120, 90)).save(folder / "a.png")
    words = ["--coco-json", str(folder / "broken.json"), "--image-root", str(folder)]
    _told(words, said, archive)


def _told(words: list[str], said: str, archive: Path) -> None:
    config = ["--config-file", str(config_of(MODEL))]
    result = CliRunner().invoke(
        app, ["evaluate", str(archive), *config, *words], env={"COLUMNS": "200"}
    )
    message = " ".join(result.output.split())
    assert result.exit_code == 1, message
    assert isinstance(result.exception, SystemExit), result.exc_info
    assert len(re.findall(r"(?:^| )Error:", message)) == 1, message
    assert re.search(said, message.partition("Error:")[2]), message
    assert "Traceback" not in message
    assert len(message) < 1500
