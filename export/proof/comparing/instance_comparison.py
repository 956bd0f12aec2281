"""Compares instances and proposals field by field, each with the one that it stands for.

Instances of equal scores have no order of their own, so they are matched first.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from pycocotools import mask as coco_mask

from d2serve.export.proof.comparing.extra_comparison import compare_extras, compare_names
from d2serve.handlers.outputs.records import Detections, Float32, Proposals
from d2serve.handlers.outputs.rle import Rle
from d2serve.handlers.spec.bounds import Bounds


@dataclass(frozen=True)
class InstanceDifference:
    """How far two sets of instances, or of proposals, are apart."""

    box_px: float = 0.0
    score: float = 0.0
    masks_differing: int = 0
    mask_iou: float = 1.0
    keypoint_px: float = 0.0
    extra: float = 0.0


def compare_instances(
    expected: Detections, got: Detections, bounds: Bounds, misses: list[str]
) -> InstanceDifference:
    """Compare a program's instances with detectron2's; what is out of bounds goes to ``misses``."""
    compare_names(expected.extra, got.extra, "instances.", misses)
    if len(expected) != len(got):
        misses.append(f"{len(got)} instances, expected {len(expected)}")
        return InstanceDifference()
    if not len(expected):
        return InstanceDifference()
    if expected.boxes.shape != got.boxes.shape:
        misses.append(f"pred_boxes are {got.boxes.shape}, expected {expected.boxes.shape}")
        return InstanceDifference()
    got = _in_order_of(expected, got)
    if not np.array_equal(expected.classes, got.classes):
        misses.append("pred_classes differ")
    box = _box_distance(expected.boxes, got.boxes, "pred_boxes", bounds, misses)
    score = _score_distance(expected.scores, got.scores, "scores", bounds, misses)
    differing, iou = _masks(expected, got, bounds, misses)
    keypoint = _keypoint_distance(expected, got, bounds, misses)
    extra = compare_extras(expected.extra, got.extra, "instances.", bounds, misses)
    return InstanceDifference(box, score, differing, iou, keypoint, extra)


def compare_proposals(
    expected: Proposals, got: Proposals, bounds: Bounds, misses: list[str]
) -> InstanceDifference:
    """Compare a program's proposals with detectron2's; the score is the objectness logit."""
    if len(expected) != len(got):
        misses.append(f"{len(got)} proposals, expected {len(expected)}")
        return InstanceDifference()
    if not len(expected):
        return InstanceDifference()
    order = _order(expected.boxes, got.boxes, expected.objectness_logits, got.objectness_logits)
    boxes, logits = got.boxes[order], got.objectness_logits[order]
    box = _box_distance(expected.boxes, boxes, "proposal_boxes", bounds, misses)
    score = _score_distance(expected.objectness_logits, logits, "objectness_logits", bounds, misses)
    return InstanceDifference(box, score)


def _box_distance(
    expected: Float32, got: Float32, name: str, bounds: Bounds, misses: list[str]
) -> float:
    box = _largest(expected, got)
    if box > bounds.box_px:
        misses.append(f"{name} by {box:.4g} px, allowed {bounds.box_px:g}")
    return box


def _score_distance(
    expected: Float32, got: Float32, name: str, bounds: Bounds, misses: list[str]
) -> float:
    score = _largest(expected, got)
    if score > bounds.score:
        misses.append(f"{name} by {score:.3g}, allowed {bounds.score:g}")
    return score


def _order(
    expected: Float32,
    got: Float32,
    scores: Float32,
    got_scores: Float32,
    different: np.ndarray[tuple[int, int], np.dtype[np.bool_]] | None = None,
) -> np.ndarray[tuple[int], np.dtype[np.intp]]:
    """Each box beside the one it stands for: equal scores have no order of their own."""
    distance = np.abs(expected[:, None] - got[None]).max(axis=2)
    # Set predictors answer masks, and boxes that are all zero.
    distance += np.abs(scores[:, None] - got_scores[None])
    if different is not None:
        distance[different] += 1e6
    order = np.zeros(len(got), np.intp)
    for index in np.argsort(-scores, kind="stable"):
        order[index] = distance[index].argmin()
        distance[:, order[index]] = np.inf
    return order


def _in_order_of(expected: Detections, got: Detections) -> Detections:
    other_class = expected.classes[:, None] != got.classes[None]
    order = _order(expected.boxes, got.boxes, expected.scores, got.scores, other_class)
    return replace(
        got,
        boxes=got.boxes[order],
        scores=got.scores[order],
        classes=got.classes[order],
        masks=None if got.masks is None else tuple(got.masks[i] for i in order),
        keypoints=None if got.keypoints is None else got.keypoints[order],
        extra={name: values[order] for name, values in got.extra.items()},
    )


def _largest(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a.astype(np.float64) - b.astype(np.float64)).max(initial=0.0))


def _masks(
    expected: Detections, got: Detections, bounds: Bounds, misses: list[str]
) -> tuple[int, float]:
    if (expected.masks is None) != (got.masks is None):
        misses.append(f"pred_masks are {'missing' if got.masks is None else 'not expected'}")
    if expected.masks is None or got.masks is None:
        return 0, 1.0
    overlaps = [overlap(a, b) for a, b in zip(expected.masks, got.masks) if a != b]
    iou = min((iou for iou, _ in overlaps), default=1.0)
    if overlaps and bounds.mask_iou == 1:
        misses.append(f"pred_masks: {len(overlaps)} of {len(expected)} are not identical")
    elif any(mask_differs(*each, bounds) for each in overlaps):
        misses.append(f"pred_masks: IoU {iou:.5f}, at least {bounds.mask_iou:g} allowed")
    return len(overlaps), iou


def mask_differs(iou: float, pixels: int, bounds: Bounds) -> bool:
    """Whether two masks that are not identical are out of bounds."""
    if bounds.mask_iou == 1:
        return True
    # In a mask of fewer than a thousand pixels, a single one at the threshold is more than 0.001.
    return iou < bounds.mask_iou and pixels > 2


def overlap(a: Rle, b: Rle) -> tuple[float, int]:
    """IoU, and in how many pixels two masks differ."""
    both, either = (
        int(coco_mask.area(coco_mask.merge([a, b], intersect=only_both)))
        for only_both in (True, False)
    )
    return both / either if either else 1.0, either - both


def _keypoint_distance(
    expected: Detections, got: Detections, bounds: Bounds, misses: list[str]
) -> float:
    if (expected.keypoints is None) != (got.keypoints is None):
        misses.append(
            f"pred_keypoints are {'missing' if got.keypoints is None else 'not expected'}"
        )
    if expected.keypoints is None or got.keypoints is None:
        return 0.0
    a, b = expected.keypoints, got.keypoints
    distance = _largest(a[..., :2], b[..., :2])
    apart = np.abs(a[..., :2] - b[..., :2]).max(axis=2) > bounds.keypoint_px
    if apart.sum() > bounds.keypoint_ties:
        misses.append(f"pred_keypoints by {distance:.4g} px, allowed {bounds.keypoint_px:g}")
    score = _largest(a[..., 2], b[..., 2])
    if score > bounds.score:
        misses.append(f"keypoint scores by {score:.3g}, allowed {bounds.score:g}")
    return distance
