"""Writes what a class for every pixel looks like on disk, in the layouts that detectron2 reads.

Three folders of PNGs, one for each image: ``stuff`` has what Panoptic FPN learns from (0 for every
shape, then the stuff from 1), ``semantic`` has one label for each class, shapes first, and
``panoptic`` is COCO's format, a segment id in each pixel's colour, explained in panoptic.json.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from examples.shapes.scene import Scene
from examples.shapes.schema import (
    CLASS_NAMES,
    FIRST_STUFF_ID,
    PANOPTIC_FOLDER,
    SEMANTIC_FOLDER,
    STUFF_FOLDER,
    STUFF_NAMES,
)

# Ids of shapes count from 1 and never get here.
_FIRST_STUFF_SEGMENT = 1000


def make_folders(output: Path) -> None:
    """The folders that ``write_labels`` writes to."""
    for folder in (STUFF_FOLDER, SEMANTIC_FOLDER, PANOPTIC_FOLDER):
        (output / folder).mkdir(parents=True, exist_ok=True)


def write_labels(output: Path, stem: str, image_id: int, scene: Scene) -> dict[str, Any]:
    """Write the three PNGs of one image, and return its entry for panoptic.json.

    ValueError if the scene has no stuff, so was not drawn for a stuff split.
    """
    if scene.stuff is None:
        raise ValueError(f"image {image_id} has no stuff; only a stuff split's images have")
    # Stuff is numbered from 1 and comes after the shapes, which are numbered from 0.
    semantic = (scene.stuff.astype(np.int64) + len(CLASS_NAMES) - 1).astype(np.uint8)
    segments = np.where(scene.stuff > 0, scene.stuff.astype(np.int64) + _FIRST_STUFF_SEGMENT, 0)
    described: list[dict[str, Any]] = []
    for number, instance in enumerate(scene.instances, start=1):
        semantic[instance.mask] = instance.category
        segments[instance.mask] = number
        described.append(_segment(number, instance.category + 1, instance.mask))
    for label in np.unique(scene.stuff[scene.stuff > 0]).tolist():
        mask = scene.stuff == label
        category = FIRST_STUFF_ID + label - 1
        described.append(_segment(_FIRST_STUFF_SEGMENT + label, category, mask))
    name = f"{stem}.png"
    Image.fromarray(scene.stuff).save(output / STUFF_FOLDER / name)
    Image.fromarray(semantic).save(output / SEMANTIC_FOLDER / name)
    colours = np.stack([segments % 256, segments // 256, np.zeros_like(segments)], axis=-1)
    Image.fromarray(colours.astype(np.uint8)).save(output / PANOPTIC_FOLDER / name)
    return {"image_id": image_id, "file_name": name, "segments_info": described}


def panoptic_categories() -> list[dict[str, Any]]:
    """panoptic.json's ``categories``: the shapes, then the stuff, ids from 1."""
    return [
        {"id": number, "name": name, "isthing": int(number < FIRST_STUFF_ID)}
        for number, name in enumerate((*CLASS_NAMES, *STUFF_NAMES), start=1)
    ]


def read_panoptic(document: str, folder: str) -> dict[int, tuple[Path, dict[int, int]]]:
    """Of each image, by id: the PNG with its segments, and the class of each of these."""
    found: dict[int, tuple[Path, dict[int, int]]] = {}
    for entry in json.loads(Path(document).read_text())["annotations"]:
        classes = {segment["id"]: segment["category_id"] for segment in entry["segments_info"]}
        found[entry["image_id"]] = Path(folder) / entry["file_name"], classes
    return found


def _segment(number: int, category: int, mask: NDArray[np.bool_]) -> dict[str, Any]:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    left, top = int(columns[0]), int(rows[0])
    return {
        "id": number,
        "category_id": category,
        "area": int(mask.sum()),
        "bbox": [left, top, int(columns[-1]) + 1 - left, int(rows[-1]) + 1 - top],
        "iscrowd": 0,
    }
