"""Compares the sides' answers first: a benchmark over different answers is worthless.

Every side answers the picture, and its instances are looked for among eager detectron2's: of the
same class, with the box that overlaps most. Some sides must give the very same instances, some
nearly all, and of low precision it is only told how many (sides.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco_mask

from benchmarks.served.sides import Bounds
from benchmarks.shared.errors import BenchError
from d2serve.client.results.prediction import RunLengthMask, parse_prediction
from d2serve.handlers.outputs.records import Detections
from d2serve.server.measuring.figures import Figure, median_of

# Some boxes are only a pixel or two wide, and detectron2 leaves their masks empty.
_LEAST_SHARE_WITH_PIXELS = 0.9
_SAME_OBJECT_IOU = 0.5

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Agreement:
    """How far one side's answer is from eager detectron2's."""

    expected: int
    """Instances that eager detectron2 answers."""
    answered: int
    found: int
    """Of the expected: of the same class, with boxes overlapping by half."""
    within_bounds: int
    """Of the found: within the bounds of a side of its kind."""
    box_px: Figure
    """Largest difference of a coordinate: median, least and greatest over the found."""
    score: Figure
    mask_iou: Figure


@dataclass(frozen=True)
class Workload:
    """What is in the answers: it decides what postprocessing costs."""

    detections: int
    median_box: tuple[float, float]
    """(height, width) in pixels of the picture."""
    median_mask_pixels: float
    median_rle_bytes: float


def workload_of(reply: dict[str, Any], detections: int) -> Workload:
    """Describe an answer.

    Raises:
        BenchError: it is not the answer that the benchmark is about.
    """
    answer = parse_prediction(reply)
    instances = answer.instances
    masks = [i.segmentation for i in instances if isinstance(i.segmentation, RunLengthMask)]
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
    return Workload(
        detections,
        (float(height), float(width)),
        median_mask_pixels=float(np.median(areas)),
        median_rle_bytes=float(np.median([len(mask.counts) for mask in masks])),
    )


def agreement_of(
    side: str, bounds: Bounds, expected: dict[str, Any], got: dict[str, Any]
) -> Agreement:
    """Compare a side's reply to a picture with the eager side's.

    Raises:
        BenchError: it does not answer what eager detectron2 does, as far as that is asked of it.
    """
    found = compare_answers(_instances(side, expected), _instances(side, got), bounds)
    if found.within_bounds < bounds.share * found.expected or (
        bounds.share == 1 and found.answered != found.expected
    ):
        raise BenchError(
            f"{side} does not answer what eager detectron2 does: of {found.expected} instances "
            f"{found.found} are found among its {found.answered}, {found.within_bounds} of them "
            f"within {bounds.box_px:g} px, a score of {bounds.score:g} and a mask IoU of "
            f"{bounds.mask_iou:g}; expected {bounds.share:.0%} of them. Boxes are off by up to "
            f"{found.box_px.high:.3g} px. Nothing was measured: verify the export with "
            "`d2serve verify`."
        )
    return found


def _instances(side: str, reply: dict[str, Any]) -> Detections:
    instances = parse_prediction(reply).to_outputs().instances
    if instances is None:
        raise BenchError(f"{side} is compared by instances, and a reply has none: {sorted(reply)}.")
    return instances


def compare_answers(expected: Detections, got: Detections, bounds: Bounds) -> Agreement:
    """Pair the instances of two answers, best overlap first, and compare the pairs."""
    pairs = _pairs(expected, got)
    box = [float(np.abs(expected.boxes[i] - got.boxes[j]).max()) for i, j in pairs]
    score = [float(abs(expected.scores[i] - got.scores[j])) for i, j in pairs]
    iou = [_mask_iou(expected, got, i, j) for i, j in pairs]
    within = sum(
        b <= bounds.box_px and s <= bounds.score and m >= bounds.mask_iou
        for b, s, m in zip(box, score, iou)
    )
    return Agreement(
        len(expected), len(got), len(pairs), within, *(_spread(each) for each in (box, score, iou))
    )


def _spread(values: list[float]) -> Figure:
    return median_of(values) if values else Figure(0.0, 0.0, 0.0)


def _pairs(expected: Detections, got: Detections) -> list[tuple[int, int]]:
    overlap = _box_iou(expected.boxes.astype(np.float64), got.boxes.astype(np.float64))
    overlap[expected.classes[:, None] != got.classes[None, :]] = 0.0
    pairs = []
    while overlap.size and overlap.max() >= _SAME_OBJECT_IOU:
        i, j = (int(each) for each in np.unravel_index(overlap.argmax(), overlap.shape))
        pairs.append((i, j))
        overlap[i, :] = 0.0
        overlap[:, j] = 0.0
    return pairs


def _box_iou(a: Floats, b: Floats) -> Floats:
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    shared = np.prod(np.clip(high - low, 0, None), axis=2)
    areas = [np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) for boxes in (a, b)]
    union = areas[0][:, None] + areas[1][None, :] - shared
    return np.asarray(np.divide(shared, union, out=np.zeros_like(shared), where=union > 0))


def _mask_iou(expected: Detections, got: Detections, i: int, j: int) -> float:
    if expected.masks is None or got.masks is None:
        return 1.0 if expected.masks is got.masks else 0.0
    a, b = expected.masks[i], got.masks[j]
    if a == b:  # empty ones have no IoU
        return 1.0
    return float(coco_mask.iou([a], [b], [0])[0][0])
