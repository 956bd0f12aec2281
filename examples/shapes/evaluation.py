"""Measures a committed weights file with detectron2's own COCO evaluation.

The model is built and loaded anew from its YAML file and runs in fp32, as a user would run it,
so whatever training or the fp16 file cost in accuracy is in the numbers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import CfgNode
from detectron2.data import build_detection_test_loader
from detectron2.evaluation import COCOEvaluator, inference_on_dataset
from detectron2.modeling import build_model
from rich.table import Table

TASKS = ("bbox", "segm", "keypoints")


@dataclass(frozen=True)
class Result:
    """One row of the table; ``metrics`` maps "bbox/AP50" and the like to percent."""

    model: str
    parameters: int
    megabytes: float
    training_minutes: float
    iterations: int
    metrics: dict[str, float]


def evaluate_weights(cfg: CfgNode, dataset: str) -> tuple[dict[str, float], int]:
    """COCO metrics in percent of ``cfg.MODEL.WEIGHTS`` on ``dataset``, and its parameter count."""
    model = build_model(cfg)
    DetectionCheckpointer(model).load(cfg.MODEL.WEIGHTS)
    model.eval()
    evaluator = COCOEvaluator(
        dataset,
        distributed=False,
        # The fast implementation is C++, which not every detectron2 build has.
        use_fast_impl=False,
        kpt_oks_sigmas=cfg.TEST.KEYPOINT_OKS_SIGMAS,
    )
    found = inference_on_dataset(model, build_detection_test_loader(cfg, dataset), evaluator)
    metrics = {
        f"{task}/{metric}": round(float(found[task][metric]), 2)
        for task in TASKS
        if task in found
        for metric in ("AP", "AP50", "AP75")
    }
    return metrics, sum(parameter.numel() for parameter in model.parameters())


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
    table = Table(title="200 held-out images, COCO metrics in percent")
    for heading in ("model", "params", "MB", "minutes", "box AP", "box AP50"):
        table.add_column(heading)
    for heading in ("mask AP", "mask AP50", "kpt AP", "kpt AP50"):
        table.add_column(heading)
    for row in rows:
        table.add_row(
            row.model,
            f"{row.parameters / 1e6:.2f} M",
            f"{row.megabytes:.1f}",
            f"{row.training_minutes:.1f}",
            *(
                _cell(row.metrics, f"{task}/{metric}")
                for task in TASKS
                for metric in ("AP", "AP50")
            ),
        )
    return table


def _cell(metrics: Mapping[str, float], name: str) -> str:
    return f"{metrics[name]:.1f}" if name in metrics else ""
