"""Why: a benchmark over different answers is worthless, so the answers are compared first.

Every side answers the picture; ours must give eager detectron2's detections within the bounds that
an export is held to, and as many of them as the plan says, with real boxes and masks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypedDict

import numpy as np

from benchmarks.errors import BenchError
from benchmarks.plan import EAGER
from d2serve.client.responses import Prediction
from d2serve.export.comparison import TORCHSCRIPT_BOUNDS, compare
from d2serve.export.replies import detections_of

# Some boxes are only a pixel or two wide, and detectron2 leaves their masks empty.
_LEAST_SHARE_WITH_PIXELS = 0.9


class Agreement(TypedDict):
    """How far one side's answer is from eager detectron2's."""

    box_px: float
    score: float
    masks_differing: int


class Workload(TypedDict):
    """What is in the answers: it decides what postprocessing costs."""

    detections: int
    median_box: tuple[float, float]
    """(height, width) in pixels of the picture."""
    median_mask_pixels: float
    median_rle_bytes: float


def workload_of(answer: Prediction, detections: int) -> Workload:
    """Describe an answer.

    Raises:
        BenchError: it is not the answer that the benchmark is about.
    """
    instances = answer.instances
    masks = [i.segmentation for i in instances if i.segmentation is not None]
    if len(instances) != detections or len(masks) != detections:
        raise BenchError(
            f"{answer.model} answered {len(instances)} instances with {len(masks)} masks, expected "
            f"{detections}. Another seed or other overrides may give that many: see plan.py."
        )
    areas = [mask.area() for mask in masks]
    if sum(area > 0 for area in areas) < _LEAST_SHARE_WITH_PIXELS * detections:
        raise BenchError(
            f"{areas.count(0)} of {detections} masks of {answer.model} are empty: pasting and "
            "encoding them costs too little to be worth measuring."
        )
    boxes = np.array([i.bbox for i in instances])
    height, width = np.median(boxes[:, 3] - boxes[:, 1]), np.median(boxes[:, 2] - boxes[:, 0])
    return {
        "detections": detections,
        "median_box": (float(height), float(width)),
        "median_mask_pixels": float(np.median(areas)),
        "median_rle_bytes": float(np.median([len(mask.counts) for mask in masks])),
    }


def agreement_of(answers: Mapping[str, Prediction]) -> dict[str, Agreement]:
    """Compare the sides' answers to one picture with the eager side's.

    Args:
        answers: by side.

    Returns:
        By side, the eager one left out.

    Raises:
        BenchError: an answer is not eager detectron2's.
    """
    reference = detections_of(answers[EAGER].raw)
    found: dict[str, Agreement] = {}
    for side in answers.keys() - {EAGER}:
        got = detections_of(answers[side].raw)
        difference = compare(side, reference, got, TORCHSCRIPT_BOUNDS)
        if difference.misses:
            raise BenchError(
                f"{side} does not answer what eager detectron2 does: "
                f"{', '.join(difference.misses)}. Nothing was measured."
            )
        found[side] = {
            "box_px": difference.box_px,
            "score": difference.score,
            "masks_differing": difference.masks_differing,
        }
    return found
