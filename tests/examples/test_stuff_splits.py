"""The splits in which every pixel has a class, and that the others stayed as they were."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from examples.shapes.generate import generate_split, split_files
from examples.shapes.scene import render_scene
from examples.shapes.schema import CLASS_NAMES, DEFAULT_SEED, EXAMPLE_ROOT, STUFF_NAMES

COUNT = 4


@pytest.fixture(scope="module")
def stuff(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stuff_heldout")
    generate_split(folder, "stuff_heldout", COUNT)
    return folder


def _read(path: Path) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    return np.asarray(Image.open(path), dtype=np.int64)


def test_the_earlier_splits_images_are_what_they_were() -> None:
    """sample.jpg was drawn before there were stuff splits."""
    drawn = render_scene("heldout", 29, DEFAULT_SEED).image.astype(np.int64)
    difference = np.abs(drawn - _read(EXAMPLE_ROOT / "sample.jpg"))
    assert difference.mean() < 5.0, "more than JPEG's loss"


def test_every_pixel_has_a_class(stuff: Path) -> None:
    for index in range(COUNT):
        labels = _read(stuff / "semantic" / f"{index:06d}.png")
        assert labels.max() < len(CLASS_NAMES) + len(STUFF_NAMES)
        background = _read(stuff / "stuff" / f"{index:06d}.png")
        assert (labels[background > 0] == background[background > 0] + len(CLASS_NAMES) - 1).all()
        assert (labels[background == 0] < len(CLASS_NAMES)).all()
        assert labels.shape == _read(stuff / "images" / f"{index:06d}.jpg").shape[:2]


def test_its_files_can_be_asked_for(stuff: Path) -> None:
    files = split_files(stuff)
    assert [file.stem for file in files.images] == [file.stem for file in files.semantic]
    assert len(files.images) == COUNT
    assert files.panoptic == stuff / "panoptic.json"


def test_the_panoptic_files_say_what_the_labels_say(stuff: Path) -> None:
    document = json.loads((stuff / "panoptic.json").read_text())
    things = {row["id"]: bool(row["isthing"]) for row in document["categories"]}
    instances = json.loads((stuff / "annotations.json").read_text())["annotations"]
    assert len(document["annotations"]) == COUNT
    for entry in document["annotations"]:
        colours = _read(stuff / "panoptic" / entry["file_name"])
        segments = colours[..., 0] + 256 * colours[..., 1] + 65536 * colours[..., 2]
        labels = _read(stuff / "semantic" / entry["file_name"])
        rows = entry["segments_info"]
        assert sorted(row["id"] for row in rows) == np.unique(segments).tolist()
        for row in rows:
            mask = segments == row["id"]
            assert row["area"] == mask.sum()
            assert (labels[mask] == row["category_id"] - 1).all()
        areas = sorted(row["area"] for row in rows if things[row["category_id"]])
        own = [row for row in instances if row["image_id"] == entry["image_id"]]
        assert areas == sorted(row["area"] for row in own)


def test_detectron2_reads_all_three_data_sets(stuff: Path) -> None:
    from detectron2.data import DatasetCatalog, MetadataCatalog

    from examples.shapes.dataset import register_generated, semantic_name

    name = register_generated("stuff_heldout", stuff)
    assert name == "shapes_stuff_heldout_separated"
    rows = DatasetCatalog.get(name)
    assert len(rows) == COUNT
    assert {"annotations", "sem_seg_file_name"} <= rows[0].keys()
    metadata = MetadataCatalog.get(name)
    assert metadata.thing_classes == list(CLASS_NAMES)
    assert metadata.stuff_classes == ["things", *STUFF_NAMES]
    assert metadata.thing_dataset_id_to_contiguous_id == {1: 0, 2: 1, 3: 2}
    assert metadata.stuff_dataset_id_to_contiguous_id == {0: 0, 4: 1, 5: 2, 6: 3}
    semantic = semantic_name("stuff_heldout")
    assert MetadataCatalog.get(semantic).stuff_classes == [*CLASS_NAMES, *STUFF_NAMES]
    assert len(DatasetCatalog.get(semantic)) == COUNT


def test_other_splits_have_no_labels_for_pixels() -> None:
    from examples.shapes.dataset import semantic_name

    with pytest.raises(ValueError, match="stuff_train, stuff_heldout"):
        semantic_name("heldout")
