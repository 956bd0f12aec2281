"""Why: "the same answer" needs bounds; a miss must name the image, the field and by how much."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from pycocotools import mask as coco_mask

from d2serve.handlers.detections import Detections
from d2serve.handlers.model_spec import TORCHSCRIPT
from d2serve.handlers.rle import Rle


@dataclass(frozen=True)
class Bounds:
    """How far a program's answer may lie from eager detectron2's."""

    box_px: float
    score: float
    keypoint_px: float
    mask_iou: float
    """Least IoU of a mask that differs by more than two pixels; 1 means identical RLE."""
    keypoint_ties: int
    """Keypoints of an image that may lie elsewhere with an equal score: a heatmap's peak can be
    shared by two pixels within rounding, and either is right."""


TORCHSCRIPT_BOUNDS = Bounds(
    box_px=0.01, score=1e-4, keypoint_px=0.01, mask_iou=1.0, keypoint_ties=0
)
# Other libraries sum convolutions in another order.
ONNX_BOUNDS = Bounds(box_px=0.01, score=1e-3, keypoint_px=0.01, mask_iou=0.999, keypoint_ties=1)


def bounds_for(runtime: str) -> Bounds:
    """The bounds of a runtime's programs in fp32."""
    return TORCHSCRIPT_BOUNDS if runtime == TORCHSCRIPT else ONNX_BOUNDS


@dataclass(frozen=True)
class Difference:
    """How far two answers to one image are apart."""

    image: str
    height: int
    width: int
    detections: int
    box_px: float
    """Largest difference of a box coordinate, in pixels."""
    score: float
    """Largest difference of a score."""
    masks_differing: int
    """Masks whose RLE is not identical."""
    mask_iou: float
    """Least IoU of a mask."""
    keypoint_px: float
    """Largest difference of a keypoint coordinate, in pixels."""
    misses: tuple[str, ...]
    """What is out of bounds, in words; empty where the answers agree."""


def compare(image: str, expected: Detections, got: Detections, bounds: Bounds) -> Difference:
    """Compare a program's answer with detectron2's, field by field.

    Args:
        image: name of the image, for the record.
        expected: eager detectron2's answer.
        got: the program's.
        bounds: within which they agree.
    """
    box = score = keypoint = 0.0
    differing, iou = 0, 1.0
    misses: list[str] = []
    if (expected.height, expected.width) != (got.height, got.width):
        misses.append(
            f"image size {got.height}x{got.width}, expected {expected.height}x{expected.width}"
        )
    if len(expected) != len(got):
        misses.append(f"{len(got)} instances, expected {len(expected)}")
    else:
        got = _in_order_of(expected, got)
        if not np.array_equal(expected.classes, got.classes):
            misses.append("pred_classes differ")
        box = _largest(expected.boxes, got.boxes)
        score = _largest(expected.scores, got.scores)
        if box > bounds.box_px:
            misses.append(f"pred_boxes by {box:.4g} px, allowed {bounds.box_px:g}")
        if score > bounds.score:
            misses.append(f"scores by {score:.3g}, allowed {bounds.score:g}")
        if len(expected):
            differing, iou = _masks(expected, got, bounds, misses)
            keypoint = _keypoint_distance(expected, got, bounds, misses)
    return Difference(
        image,
        expected.height,
        expected.width,
        len(expected),
        box,
        score,
        differing,
        iou,
        keypoint,
        tuple(misses),
    )


def _in_order_of(expected: Detections, got: Detections) -> Detections:
    """Each instance beside the one it stands for: equal scores have no order of their own."""
    distance = np.abs(expected.boxes[:, None] - got.boxes[None]).max(axis=2)
    distance[expected.classes[:, None] != got.classes[None]] += 1e6
    order = np.zeros(len(got), np.intp)
    for index in np.argsort(-expected.scores, kind="stable"):
        order[index] = distance[index].argmin()
        distance[:, order[index]] = np.inf
    return Detections(
        height=got.height,
        width=got.width,
        boxes=got.boxes[order],
        scores=got.scores[order],
        classes=got.classes[order],
        masks=None if got.masks is None else tuple(got.masks[i] for i in order),
        keypoints=None if got.keypoints is None else got.keypoints[order],
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
    overlaps = [_overlap(a, b) for a, b in zip(expected.masks, got.masks) if a != b]
    iou = min((iou for iou, _ in overlaps), default=1.0)
    if overlaps and bounds.mask_iou == 1:
        misses.append(f"pred_masks: {len(overlaps)} of {len(expected)} are not identical")
    # In a mask of fewer than a thousand pixels, a single one at the threshold is more than 0.001.
    elif any(iou < bounds.mask_iou and pixels > 2 for iou, pixels in overlaps):
        misses.append(f"pred_masks: IoU {iou:.5f}, at least {bounds.mask_iou:g} allowed")
    return len(overlaps), iou


def _overlap(a: Rle, b: Rle) -> tuple[float, int]:
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
