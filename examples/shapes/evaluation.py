"""Measures a committed weights file with detectron2's own evaluators, and panoptic quality.

The model is built and loaded anew from its config and runs in fp32, as a user would run it,
so whatever training or the fp16 file cost in accuracy is in the numbers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.data import MetadataCatalog
from detectron2.evaluation import (
    COCOEvaluator,
    DatasetEvaluator,
    DatasetEvaluators,
    SemSegEvaluator,
    inference_on_dataset,
)
from numpy.typing import NDArray
from PIL import Image
from rich.table import Table

from examples.shapes.panoptic_quality import PanopticQualityEvaluator
from examples.shapes.recipes import Recipe

METRICS = {
    **dict.fromkeys(("bbox", "segm", "keypoints", "rotated_bbox"), ("AP", "AP50", "AP75")),
    "box_proposals": ("AR@100", "AR@1000"),
    "sem_seg": ("mIoU", "pACC"),
    "panoptic": ("PQ", "PQ_things", "PQ_stuff"),
}
"""What is kept of each of the evaluators' results, all in percent."""


@dataclass(frozen=True)
class Result:
    """One row of the table; ``metrics`` maps "bbox/AP50" and the like to percent."""

    model: str
    parameters: int
    megabytes: float
    training_minutes: float
    iterations: int
    metrics: dict[str, float]


def evaluate_weights(recipe: Recipe) -> tuple[dict[str, float], int]:
    """Metrics in percent of the model's weights on its held-out images, and its parameter count."""
    model = recipe.model()
    DetectionCheckpointer(model).load(str(recipe.weights))
    model.eval()
    found = inference_on_dataset(model, recipe.test_batches(), _evaluator(recipe))
    metrics = {
        f"{task}/{metric}": round(float(found[task][metric]), 2)
        for task, kept in METRICS.items()
        if task in found
        for metric in kept
    }
    return metrics, sum(parameter.numel() for parameter in model.parameters())


def _evaluator(recipe: Recipe) -> DatasetEvaluator:
    """The evaluators that fit the data set's annotations."""
    _, dataset = recipe.datasets
    kind = MetadataCatalog.get(dataset).evaluator_type
    if dataset.endswith("_panoptic"):  # things and stuff in one numbering
        return DatasetEvaluators([PanopticQualityEvaluator(dataset)])
    evaluators: list[DatasetEvaluator] = []
    if kind in ("sem_seg", "coco_panoptic_seg"):
        evaluators.append(
            SemSegEvaluator(dataset, distributed=False, sem_seg_loading_fn=_read_labels)
        )
    if kind == "coco_panoptic_seg":
        evaluators.append(PanopticQualityEvaluator(dataset))
    if kind in ("coco", "coco_panoptic_seg"):
        sigmas = recipe.keypoint_sigmas
        # The fast implementation is C++, which not every detectron2 build has.
        coco = COCOEvaluator(dataset, distributed=False, use_fast_impl=False, kpt_oks_sigmas=sigmas)
        evaluators.append(coco)
    return DatasetEvaluators(evaluators)


def _read_labels(path: str, dtype: type) -> NDArray[Any]:
    # detectron2's own asks numpy for something that numpy 2 refuses.
    return np.array(Image.open(path), dtype=dtype)


def record_result(results_file: Path, result: Result) -> list[Result]:
    """Add or replace one model's result in the file; returns all that it now holds."""
    results = {row.model: row for row in read_results(results_file)} | {result.model: result}
    rows = list(results.values())
    results_file.write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n")
    return rows


def read_results(results_file: Path) -> list[Result]:
    """The recorded results; none if the file does not exist yet."""
    if not results_file.is_file():
        return []
    return [Result(**row) for row in json.loads(results_file.read_text())]


def results_table(rows: list[Result]) -> Table:
    """The table of README.md, for the terminal."""
    table = Table(title="200 held-out images, in percent")
    columns = {
        "box AP": "bbox/AP",
        "box AP50": "bbox/AP50",
        "mask AP": "segm/AP",
        "mask AP50": "segm/AP50",
        "kpt AP": "keypoints/AP",
        "kpt AP50": "keypoints/AP50",
        "mIoU": "sem_seg/mIoU",
        "PQ": "panoptic/PQ",
        "AR@100": "box_proposals/AR@100",
    }
    for heading in ("model", "params", "MB", "minutes", *columns):
        table.add_column(heading)
    for row in rows:
        table.add_row(
            row.model,
            f"{row.parameters / 1e6:.2f} M",
            f"{row.megabytes:.1f}",
            f"{row.training_minutes:.1f}",
            *(_cell(row.metrics, metric) for metric in columns.values()),
        )
    return table


def _cell(metrics: Mapping[str, float], name: str) -> str:
    return f"{metrics[name]:.1f}" if name in metrics else ""
