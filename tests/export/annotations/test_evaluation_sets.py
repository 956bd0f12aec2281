"""A data set is judged as the user has it, or refused before any image is run."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import BoxMode
from PIL import Image

from d2serve.export.annotations.evaluation_sets import EvaluationSet, Source, evaluation_set
from d2serve.export.annotations.expectations import Expectations
from d2serve.export.errors import EvaluationError
from d2serve.export.proof.evaluation import near_zero
from d2serve.export.reading.family import Family
from tests.export.annotations.handmade import SIZE, coco, expecting

NAMES = ("a", "b")
LABELS = Family("Labels", ("sem_seg",), None)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Of the image that handmade.coco annotates."""
    Image.new("RGB", SIZE[::-1]).save(tmp_path / "a.png")
    return tmp_path


def made(source: Source, expected: Expectations | None = None) -> EvaluationSet:
    with evaluation_set(source, expected or expecting(*NAMES)) as data:
        return data


def written(folder: Path, content: Any) -> tuple[Path, Path]:
    file = folder / "a.json"
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    return file, folder


def test_a_file_is_read_with_the_sizes_of_its_images(folder: Path) -> None:
    content = coco(*NAMES)
    for key in ("height", "width"):
        del content["images"][0][key]
    data = made(written(folder, content))
    assert (data.name, data.tasks, data.annotations) == ("a.json", ("bbox", "segm"), 2)
    assert [record["image_id"] for record in data.records] == [1]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", r"Expecting property name"),
        ("[]", r"it holds a list, not an object"),
        (
            {"shapes": [], "imagePath": "a"},
            r"no images and no annotations .* but shapes, imagePath",
        ),
        (coco(*NAMES, annotations={}), r"annotations is a dict, not a list"),
        (coco(*NAMES, annotations=[{"image_id": 7}]), r"annotations\[0\] has no category_id"),
        (coco(*NAMES, categories=[{"id": 1}]), r"categories\[0\] has no name"),
        (coco(*NAMES, images=[{"id": 7}]), r"images\[0\] has no file_name"),
        (coco(*NAMES, categories=[{"id": 1, "name": "a"}] * 2), r"two categories have the id 1"),
        (coco(*NAMES, images=[{"file_name": "a.png"}]), r"images\[0\] has no id"),
        (coco(*NAMES, images=[]), r"0 of the 0 images .*none listed"),
        (coco(*NAMES, images=[{"id": 7, "file_name": "b.png"}]), r"1 of the 1 images .*Check --im"),
    ],
)
def test_what_is_no_coco_file_is_said(content: Any, message: str, folder: Path) -> None:
    with pytest.raises(EvaluationError, match=message):
        made(written(folder, content))


def test_images_of_other_sizes_are_refused(folder: Path) -> None:
    Image.new("RGB", SIZE).save(folder / "a.png")
    with pytest.raises(EvaluationError, match=r"a\.png is 40x60, not 60x40.*turned \(EXIF\)"):
        made(written(folder, coco(*NAMES)))


def test_a_photo_that_lies_on_its_side_has_the_size_that_is_seen(folder: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", SIZE).save(folder / "a.png", exif=exif)
    assert made(written(folder, coco(*NAMES))).annotations == 2


def test_a_file_that_is_no_image_is_named(folder: Path) -> None:
    (folder / "a.png").write_bytes(b"no image")
    with pytest.raises(EvaluationError, match=r"The image .*a\.png cannot be read"):
        made(written(folder, coco(*NAMES)))


@pytest.fixture
def registered(folder: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    """A data set that is registered as records, as many a notebook does it."""
    name = f"set of {request.node.name}"
    box = {"bbox": [5, 5, 20, 10], "bbox_mode": BoxMode.XYWH_ABS, "category_id": 1}
    record = {
        "file_name": str(folder / "a.png"),
        "image_id": "a",
        "height": SIZE[0],
        "width": SIZE[1],
        "annotations": [{**box, "segmentation": [[5, 5, 25, 5, 25, 15, 5, 15]]}],
        "sem_seg_file_name": str(folder / "labels.png"),
    }
    Image.fromarray(np.zeros(SIZE, np.uint8)).save(folder / "labels.png")
    DatasetCatalog.register(name, lambda: [dict(record)])
    yield name
    DatasetCatalog.remove(name)
    MetadataCatalog.pop(name, None)


def test_records_are_judged_by_their_class_indices(registered: str) -> None:
    with evaluation_set(registered, expecting(*NAMES)) as data:
        assert data.instances is not None
        file = Path(MetadataCatalog.get(data.instances).json_file)
        (annotation,) = json.loads(file.read_text())["annotations"]
    assert (annotation["category_id"], annotation["image_id"]) == (2, 1)
    assert not file.exists()


def test_a_data_set_that_cannot_be_loaded_is_said() -> None:
    DatasetCatalog.register("a broken one", lambda: [][0])
    try:
        with pytest.raises(EvaluationError, match=r"a broken one cannot be loaded"):
            made("a broken one")
    finally:
        DatasetCatalog.remove("a broken one")
    with pytest.raises(EvaluationError, match=r"nowhere cannot be loaded"):
        made("nowhere")


def of_labels(*names: str, count: int | None = None) -> Expectations:
    return dataclasses.replace(
        expecting(*NAMES),
        family=LABELS,
        class_names=None,
        stuff_class_names=names or None,
        num_labels=count or len(names),
    )


def test_labels_are_judged_by_the_models_names_where_they_have_none(registered: str) -> None:
    data = made(registered, of_labels("u", "v"))
    assert (data.tasks, data.annotations, data.notes) == ((), 0, ())
    assert data.labels is not None


@pytest.mark.parametrize(
    ("names", "expected", "message"),
    [
        (["u", "v", "w"], of_labels("u", "v"), r"has 3 labels \(u, v, w\), the model tells 2"),
        (["v", "u"], of_labels("u", "v"), r"not in the same order: v, u in .*, u, v in the model"),
        ([], of_labels(count=2), r"have no names"),
    ],
)
def test_labels_that_are_not_the_models_are_refused(
    names: list[str], expected: Expectations, message: str, registered: str
) -> None:
    MetadataCatalog.get(registered).set(stuff_classes=names)
    with pytest.raises(EvaluationError, match=message):
        made(registered, expected)


def test_label_files_that_are_not_there_are_counted(registered: str, folder: Path) -> None:
    (folder / "labels.png").unlink()
    with pytest.raises(EvaluationError, match=r"1 of the 1 label files"):
        made(registered, of_labels("u", "v"))


def test_an_ap_near_zero_judges_nothing() -> None:
    scores = {"bbox": {"AP": 0.02}, "segm": {"AP": 40.0}, "sem_seg": {"mIoU": float("nan")}}
    assert near_zero(scores) == ["AP 0.0 (bbox)", "mIoU nan (sem_seg)"]
