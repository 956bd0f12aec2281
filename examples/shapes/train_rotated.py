"""Trains rotated_faster_rcnn_fpn, whose boxes are turned with the shapes.

`python -m examples.shapes.train_rotated` does for it what examples.shapes.train does for the
others. Its targets are the smallest rectangles around the masks; of a shape that looks much the
same from all sides, such as a circle, that is its upright box. detectron2's rotated operators are
compiled; where they are missing, the project's own stand in for training and evaluation.
"""

from __future__ import annotations

import copy
import json
import math
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import typer
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import CfgNode, get_cfg
from detectron2.data import (
    DatasetCatalog,
    MetadataCatalog,
    build_detection_test_loader,
    build_detection_train_loader,
)
from detectron2.data import transforms as T  # noqa: N812  # as detectron2's own code names it
from detectron2.data.datasets import load_coco_json
from detectron2.data.detection_utils import (
    annotations_to_instances_rotated,
    build_augmentation,
    read_image,
)
from detectron2.evaluation import RotatedCOCOEvaluator, inference_on_dataset
from detectron2.structures import BoxMode
from detectron2.utils.env import seed_all_rng
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from d2serve.export.rewrites.rotated.stand_ins import plain_rotated_operators
from examples.shapes.cpu_speed import prepare_process
from examples.shapes.evaluation import Result, record_result, results_table
from examples.shapes.recipes import MODELS_FOLDER, ROTATED_MODEL, Recipe, _of_yaml
from examples.shapes.schema import ANNOTATIONS_FILE, CLASS_NAMES, DEFAULT_DATA_ROOT, IMAGES_FOLDER
from examples.shapes.train import (
    RESULTS_FILE,
    _ensure_generated,
    _optimise,
    _start_from_first_model,
    console,
    save_weights,
)

ROTATED_FILE = "rotated_annotations.json"
# A turned rectangle must be this much smaller than the upright one to count.
_WORTH_TURNING = 0.92


def rotated_box(mask: NDArray[np.uint8]) -> list[float]:
    """Centre x and y, width, height, degrees counterclockwise in [-90, 90); width is the longer.

    Args:
        mask: (H, W), of which what is not 0 is inside.
    """
    rows, columns = np.nonzero(mask)
    # Corners of the pixels: a rectangle around their centres would be half a pixel short.
    corners = [(columns + right, rows + low) for right in (0, 1) for low in (0, 1)]
    points = np.concatenate([np.stack(each, axis=1) for each in corners]).astype(np.float32)
    (x, y), (width, height), clockwise = cv2.minAreaRect(cv2.convexHull(points))
    angle = -clockwise
    low, high = points.min(axis=0), points.max(axis=0)
    upright = high - low
    if width * height > _WORTH_TURNING * float(upright.prod()):
        (x, y), (width, height), angle = (low + high) / 2, upright, 0.0
    if height > width:
        width, height, angle = height, width, angle + 90.0
    angle = math.remainder(angle, 180.0)
    return [float(x), float(y), float(width), float(height), angle - 180.0 * (angle == 90.0)]


def register_rotated(split: str, folder: Path | None = None) -> str:
    """Write the rotated annotations of generated images, and register them with detectron2.

    Returns:
        The data set's name, e.g. ``shapes_rotated_heldout``.
    """
    folder = folder or DEFAULT_DATA_ROOT / split
    document = json.loads((folder / ANNOTATIONS_FILE).read_text())
    for each in document["annotations"]:
        each["bbox"] = rotated_box(coco_mask.decode(each.pop("segmentation")))
        each["area"] = each["bbox"][2] * each["bbox"][3]
        del each["keypoints"], each["num_keypoints"]
    file = folder / ROTATED_FILE
    file.write_text(json.dumps(document))
    name = f"shapes_rotated_{split}"
    if name in DatasetCatalog:
        DatasetCatalog.remove(name)
    MetadataCatalog.pop(name, None)
    DatasetCatalog.register(name, lambda: _read(file, folder / IMAGES_FOLDER, name))
    MetadataCatalog.get(name).set(
        json_file=str(file), evaluator_type="rotated_coco", thing_classes=list(CLASS_NAMES)
    )
    return name


def _read(file: Path, images: Path, name: str) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = load_coco_json(str(file), str(images), name)
    for entry in entries:
        for annotation in entry["annotations"]:
            annotation["bbox_mode"] = BoxMode.XYWHA_ABS
    return entries


class RotatedMapper:
    """detectron2's DatasetMapper knows upright boxes only."""

    def __init__(self, cfg: CfgNode, is_train: bool) -> None:
        self._augmentations = T.AugmentationList(build_augmentation(cfg, is_train))
        self._format = cfg.INPUT.FORMAT
        self._is_train = is_train

    def __call__(self, entry: dict[str, Any]) -> dict[str, Any]:
        """The image, and in training its turned boxes, resized and perhaps mirrored alike."""
        entry = copy.deepcopy(entry)
        sample = T.AugInput(read_image(entry["file_name"], format=self._format))
        transforms = self._augmentations(sample)
        pixels = np.ascontiguousarray(sample.image.transpose(2, 0, 1))
        annotations = entry.pop("annotations", [])
        entry["image"] = torch.as_tensor(pixels)
        if self._is_train:
            for each in annotations:
                each["bbox"] = transforms.apply_rotated_box(np.array([each["bbox"]]))[0]
            size = sample.image.shape[:2]
            entry["instances"] = annotations_to_instances_rotated(annotations, size)
        return entry


def rotated_recipe() -> Recipe:
    """The model's recipe, on images that have been generated."""
    names = tuple(register_rotated(split) for split in ("train", "heldout"))
    file = MODELS_FOLDER / f"{ROTATED_MODEL}.yaml"
    recipe = _of_yaml(ROTATED_MODEL, file, MODELS_FOLDER / f"{ROTATED_MODEL}.pth")
    cfg = get_cfg()
    cfg.merge_from_file(str(file))
    cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = names[:1], names[1:]
    return replace(
        recipe,
        datasets=(names[0], names[1]),
        training_batches=lambda: build_detection_train_loader(
            cfg, mapper=RotatedMapper(cfg, is_train=True)
        ),
        test_batches=lambda: build_detection_test_loader(
            cfg, names[1], mapper=RotatedMapper(cfg, is_train=False)
        ),
    )


def evaluate_rotated(recipe: Recipe) -> tuple[dict[str, float], int]:
    """Rotated AP in percent of the weights on the held-out images, and the parameter count."""
    model = recipe.model()
    DetectionCheckpointer(model).load(str(recipe.weights))
    model.eval()
    evaluator = RotatedCOCOEvaluator(
        recipe.datasets[1], tasks=("bbox",), distributed=False, use_fast_impl=False
    )
    found = inference_on_dataset(model, recipe.test_batches(), evaluator)["bbox"]
    metrics = {
        f"rotated_bbox/{each}": round(float(found[each]), 2) for each in ("AP", "AP50", "AP75")
    }
    return metrics, sum(parameter.numel() for parameter in model.parameters())


def main() -> None:
    """Train, save, reload and evaluate the rotated model."""
    for split in ("train", "heldout"):
        _ensure_generated(split)
    recipe = rotated_recipe()
    prepare_process()
    seed_all_rng(recipe.seed)
    with plain_rotated_operators():
        model = recipe.model()
        first = _start_from_first_model(recipe, model)
        started = time.perf_counter()
        _optimise(recipe, model, first)
        minutes = (time.perf_counter() - started) / 60.0
        save_weights(model, recipe.weights)
        metrics, parameters = evaluate_rotated(recipe)
    result = Result(
        model=ROTATED_MODEL,
        parameters=parameters,
        megabytes=round(recipe.weights.stat().st_size / 1e6, 2),
        training_minutes=round(minutes, 1),
        iterations=recipe.iterations,
        metrics=metrics,
    )
    console.print(metrics, results_table(record_result(RESULTS_FILE, result)))


if __name__ == "__main__":
    typer.run(main)
