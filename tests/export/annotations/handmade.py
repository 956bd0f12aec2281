"""Small COCO contents, and models' expectations of them, made by hand."""

from __future__ import annotations

from typing import Any

from d2serve.export.annotations.expectations import Expectations
from d2serve.export.reading.family import Family
from d2serve.handlers.spec.output_names import BOXES, CLASSES, KEYPOINTS, MASKS, SCORES

INSTANCES = (BOXES, SCORES, CLASSES)
SIZE = (40, 60)
"""Height and width of every image."""


def coco(*categories: str, **changed: Any) -> dict[str, Any]:
    """An image with a 20 x 10 rectangle of each category, numbered from 1."""
    annotations = [
        {
            "id": number,
            "image_id": 7,
            "category_id": number,
            "bbox": [5.0, 5.0, 20.0, 10.0],
            "area": 200.0,
            "iscrowd": 0,
            "segmentation": [[5.0, 5.0, 25.0, 5.0, 25.0, 15.0, 5.0, 15.0]],
        }
        for number in range(1, len(categories) + 1)
    ]
    content = {
        "images": [{"id": 7, "file_name": "a.png", "height": SIZE[0], "width": SIZE[1]}],
        "annotations": annotations,
        "categories": [{"id": n, "name": name} for n, name in enumerate(categories, 1)],
    }
    return {**content, **changed}


def expecting(
    *names: str,
    outputs: tuple[str, ...] = (*INSTANCES, MASKS),
    num_classes: int | None = None,
    num_keypoints: int | None = None,
    sigmas: tuple[float, ...] = (),
) -> Expectations:
    """A model with classes of these names, or of so many without names."""
    return Expectations(
        family=Family("A family", outputs, num_classes or len(names)),
        class_names=names or None,
        stuff_class_names=None,
        num_labels=None,
        num_keypoints=num_keypoints,
        sigmas=sigmas,
        by_yaml=True,
    )


WITH_KEYPOINTS = (*INSTANCES, KEYPOINTS)
