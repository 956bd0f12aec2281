"""Why: an export in low precision is calibrated on pictures and proven by its AP on a data set.

There is no ground truth for a random model. So eager detectron2's own detections on a few small
pictures are taken for it: the export can then be made as any other, and its AP means nothing here.
The AP that counts is that of the trained example models.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from detectron2.config import get_cfg
from detectron2.engine import DefaultPredictor
from PIL import Image

from benchmarks.eager_handler import describe, encode_masks
from benchmarks.model import SavedModel
from benchmarks.photo import photo

_EVALUATED = 4


@dataclass(frozen=True)
class SmallPictures:
    """What a low-precision export asks for."""

    folder: Path
    """Calibration images."""
    annotations: Path
    """COCO's, of the first few of them."""


def save_small_pictures(
    saved: SavedModel, size: tuple[int, int], count: int, seed: int, folder: Path
) -> SmallPictures:
    """Draw pictures, and let eager detectron2 annotate the first few.

    Args:
        saved: the model.
        size: short and longest edge; of the pictures, and for the model.
        count: of the pictures.
        seed: of the first; each has another.
        folder: where they go.
    """
    images = folder / "images"
    images.mkdir(parents=True)
    pictures = [photo(*size, seed=seed + index) for index in range(count)]
    for index, picture in enumerate(pictures):
        Image.fromarray(picture).save(images / f"{index:04d}.png")
    cfg = get_cfg()
    cfg.merge_from_file(str(saved.config))
    cfg.MODEL.WEIGHTS = str(saved.weights)
    cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST = size
    predictor = DefaultPredictor(cfg)
    names = list(predictor.metadata.get("thing_classes"))
    content: dict[str, Any] = {
        "info": {},
        "categories": [{"id": index + 1, "name": name} for index, name in enumerate(names)],
        "images": [],
        "annotations": [],
    }
    for index, picture in enumerate(pictures[:_EVALUATED]):
        with torch.no_grad():
            instances = predictor(picture[:, :, ::-1])["instances"]
        height, width = instances.image_size
        file = {"id": index + 1, "file_name": f"{index:04d}.png", "height": height, "width": width}
        content["images"].append(file)
        for found in describe(instances, encode_masks(instances), names)["instances"]:
            content["annotations"].append(
                _annotation(found, len(content["annotations"]) + 1, index + 1)
            )
    annotations = folder / "annotations.json"
    annotations.write_text(json.dumps(content), encoding="utf-8")
    return SmallPictures(images, annotations)


def _annotation(found: dict[str, Any], number: int, image: int) -> dict[str, Any]:
    x0, y0, x1, y1 = found["bbox"]
    return {
        "id": number,
        "image_id": image,
        "category_id": found["category_id"] + 1,
        "bbox": [x0, y0, x1 - x0, y1 - y0],
        "area": (x1 - x0) * (y1 - y0),
        "iscrowd": 0,
        "segmentation": found["segmentation"],
    }
