"""Which instances of two answers belong together, so that it can be said how many differ.

With random weights, candidates are nearly tied, and the last digit of another runtime can change
which box survives NMS; all others still have to be where detectron2 puts them.
"""

from __future__ import annotations

import numpy as np
from pycocotools import mask as coco_mask

from d2serve.export.proof.reference import count_of
from d2serve.handlers.outputs.records import Detections, Outputs
from d2serve.handlers.spec.bounds import Bounds


def counterparts(expected: Outputs, got: Outputs, bounds: Bounds) -> int:
    """How many expected instances, proposals or labels have a counterpart within the bounds."""
    a, b = _instances(expected), _instances(got)
    if a is not None and b is not None:
        return _paired(a, b, bounds)
    if expected.sem_seg is None or got.sem_seg is None:
        return 0
    wrong = np.unique(expected.sem_seg[expected.sem_seg != got.sem_seg])
    return count_of(expected) - len(wrong)


def _instances(answer: Outputs) -> Detections | None:
    if answer.proposals is None:
        return answer.instances
    found = answer.proposals
    return Detections(
        height=answer.height,
        width=answer.width,
        boxes=found.boxes,
        scores=found.objectness_logits,
        classes=np.zeros(len(found.boxes), np.int64),
        masks=None,
        keypoints=None,
    )


def _paired(expected: Detections, got: Detections, bounds: Bounds) -> int:
    box = np.abs(expected.boxes[:, None] - got.boxes[None]).max(axis=2, initial=0.0)
    score = np.abs(expected.scores[:, None] - got.scores[None])
    alike = (
        (expected.classes[:, None] == got.classes[None])
        & (box <= bounds.box_px)
        & (score <= bounds.score)
    )
    pairs = 0
    for i in range(len(expected)):
        for j in np.flatnonzero(alike[i]):
            if _same_mask(expected, got, i, int(j), bounds) and _same_keypoints(
                expected, got, i, int(j), bounds
            ):
                alike[:, j] = False  # it stands for one only
                pairs += 1
                break
    return pairs


def _same_mask(expected: Detections, got: Detections, i: int, j: int, bounds: Bounds) -> bool:
    if expected.masks is None or got.masks is None:
        return expected.masks is got.masks
    a, b = expected.masks[i], got.masks[j]
    return a == b or float(coco_mask.iou([a], [b], [0])[0][0]) >= bounds.mask_iou


def _same_keypoints(expected: Detections, got: Detections, i: int, j: int, bounds: Bounds) -> bool:
    if expected.keypoints is None or got.keypoints is None:
        return expected.keypoints is got.keypoints
    apart = np.abs(expected.keypoints[i, :, :2] - got.keypoints[j, :, :2]).max(axis=1)
    return int((apart > bounds.keypoint_px).sum()) <= bounds.keypoint_ties
