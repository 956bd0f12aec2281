"""Why: "the same answer" needs bounds; a miss must name the image, the field and by how much."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from d2serve.handlers.detections import Detections


@dataclass(frozen=True)
class Bounds:
    """How far a program's answer may lie from eager detectron2's."""

    box_px: float
    score: float
    keypoint_px: float


TORCHSCRIPT_BOUNDS = Bounds(box_px=0.01, score=1e-4, keypoint_px=0.01)


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
    differing = 0
    misses: list[str] = []
    if (expected.height, expected.width) != (got.height, got.width):
        misses.append(
            f"image size {got.height}x{got.width}, expected {expected.height}x{expected.width}"
        )
    if len(expected) != len(got):
        misses.append(f"{len(got)} instances, expected {len(expected)}")
    else:
        order, got_order = _by_score(expected), _by_score(got)
        if not np.array_equal(expected.classes[order], got.classes[got_order]):
            misses.append("pred_classes differ")
        box = _largest(expected.boxes[order], got.boxes[got_order])
        score = _largest(expected.scores[order], got.scores[got_order])
        if box > bounds.box_px:
            misses.append(f"pred_boxes by {box:.4g} px, allowed {bounds.box_px:g}")
        if score > bounds.score:
            misses.append(f"scores by {score:.3g}, allowed {bounds.score:g}")
        if len(expected):
            differing = _differing_masks(expected, got, misses)
            keypoint = _keypoint_distance(expected, got, bounds, misses)
    return Difference(
        image,
        expected.height,
        expected.width,
        len(expected),
        box,
        score,
        differing,
        keypoint,
        tuple(misses),
    )


def _by_score(detections: Detections) -> np.ndarray[tuple[int], np.dtype[np.intp]]:
    return np.argsort(-detections.scores, kind="stable")


def _largest(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a.astype(np.float64) - b.astype(np.float64)).max(initial=0.0))


def _differing_masks(expected: Detections, got: Detections, misses: list[str]) -> int:
    if (expected.masks is None) != (got.masks is None):
        misses.append(f"pred_masks are {'missing' if got.masks is None else 'not expected'}")
    if expected.masks is None or got.masks is None:
        return 0
    pairs = zip(_by_score(expected), _by_score(got))
    differing = sum(expected.masks[i] != got.masks[j] for i, j in pairs)
    if differing:
        misses.append(f"pred_masks: {differing} of {len(expected)} are not identical")
    return differing


def _keypoint_distance(
    expected: Detections, got: Detections, bounds: Bounds, misses: list[str]
) -> float:
    if (expected.keypoints is None) != (got.keypoints is None):
        misses.append(
            f"pred_keypoints are {'missing' if got.keypoints is None else 'not expected'}"
        )
    if expected.keypoints is None or got.keypoints is None:
        return 0.0
    a, b = expected.keypoints[_by_score(expected)], got.keypoints[_by_score(got)]
    distance = _largest(a[..., :2], b[..., :2])
    if distance > bounds.keypoint_px:
        misses.append(f"pred_keypoints by {distance:.4g} px, allowed {bounds.keypoint_px:g}")
    score = _largest(a[..., 2], b[..., 2])
    if score > bounds.score:
        misses.append(f"keypoint scores by {score:.3g}, allowed {bounds.score:g}")
    return distance
