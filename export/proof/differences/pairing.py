"""Pairs the instances of two answers that need not hold as many.

Comparing for a verdict ends at another count. To show what differs, each instance goes beside the
one that lies where it lies, and what is left over is on one side only.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco_mask

from d2serve.handlers.outputs.boxes import corners
from d2serve.handlers.outputs.records import Detections, Float32, Outputs
from d2serve.handlers.spec.output_names import XYWHA_ABS, XYXY_ABS

_LEAST_IOU = 0.5
_Matrix = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Things:
    """Instances or proposals of one answer, as pairing and marking need them."""

    points: Float32
    """(N, 4, 2) the corners of each, x and y."""
    scores: Float32
    classes: npt.NDArray[np.int64]

    @property
    def hulls(self) -> Float32:
        """(N, 4) the upright boxes around the corners."""
        return np.concatenate([self.points.min(axis=1), self.points.max(axis=1)], axis=1)

    @staticmethod
    def of(outputs: Outputs) -> Things | None:
        """Those of an answer; None where the model has neither."""
        if outputs.instances is not None:
            found = outputs.instances
            return Things(_points(found), found.scores, found.classes)
        if outputs.proposals is not None:
            proposals = outputs.proposals
            points = corners(proposals.boxes, XYXY_ABS)
            zeros = np.zeros(len(proposals), np.int64)
            return Things(points, _sigmoid(proposals.objectness_logits), zeros)
        return None


@dataclass(frozen=True)
class Pairing:
    """Which instance stands for which."""

    pairs: tuple[tuple[int, int], ...]
    """The expected index and the one that was got, by falling score."""
    missing: tuple[int, ...]
    """Expected, without a counterpart."""
    unexpected: tuple[int, ...]
    """Got, without a counterpart."""


def paired(expected: Things, got: Things) -> Pairing:
    """Pair those that overlap most, of the same class first; each at most once."""
    iou = _iou(expected.hulls, got.hulls)
    same = expected.classes[:, None] == got.classes[None]
    # Equal boxes of one class are told apart by their scores.
    apart = np.abs(expected.scores[:, None].astype(np.float64) - got.scores[None])
    rank = iou + 10 * same - 0.01 * apart
    near = np.argwhere(iou >= _LEAST_IOU)
    near = near[np.argsort(-rank[near[:, 0], near[:, 1]], kind="stable")]
    partner: dict[int, int] = {}
    taken: set[int] = set()
    for i, j in near.tolist():
        if i not in partner and j not in taken:
            partner[i] = j
            taken.add(j)
    return Pairing(
        tuple(sorted(partner.items())),
        tuple(i for i in range(len(expected.scores)) if i not in partner),
        tuple(j for j in range(len(got.scores)) if j not in taken),
    )


def _points(found: Detections) -> Float32:
    """Corners of the boxes; of set predictors, whose boxes are all zero, those around the masks."""
    if not len(found):
        return np.zeros((0, 4, 2), np.float32)
    if not found.boxes.any() and found.masks is not None:
        x, y, width, height = coco_mask.toBbox(list(found.masks)).T.astype(np.float32)
        return corners(np.stack([x, y, x + width, y + height], axis=1), XYXY_ABS)
    return corners(found.boxes, XYWHA_ABS if found.boxes.shape[1] == 5 else XYXY_ABS)


def _iou(a: Float32, b: Float32) -> _Matrix:
    first, second = a[:, None].astype(np.float64), b[None].astype(np.float64)
    sides = np.minimum(first[..., 2:], second[..., 2:]) - np.maximum(
        first[..., :2], second[..., :2]
    )
    both = np.clip(sides, 0, None).prod(axis=-1)
    areas = [(each[..., 2:] - each[..., :2]).prod(axis=-1) for each in (first, second)]
    either = areas[0] + areas[1] - both
    iou: _Matrix = np.divide(both, either, out=np.zeros_like(both), where=either > 0)
    return iou


def _sigmoid(logits: Float32) -> Float32:
    return (1 / (1 + np.exp(-np.clip(logits, -80, 80)))).astype(np.float32)
