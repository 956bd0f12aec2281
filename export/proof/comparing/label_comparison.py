"""Compares label maps pixel by pixel.

A few pixels may differ: where two labels tie within rounding, either is right.
"""

from __future__ import annotations

import numpy as np

from d2serve.handlers.outputs.records import Int32, PanopticSeg
from d2serve.handlers.spec.bounds import Bounds

# Whatever the size of the image; and, of each segment made of an ONNX program's masks, as many.
_PIXELS_ALWAYS = 2


def compare_labels(expected: Int32, got: Int32, bounds: Bounds, misses: list[str]) -> int:
    """Pixels with another label; what is out of bounds goes to ``misses``."""
    if expected.shape != got.shape:
        misses.append(f"sem_seg is {got.shape}, expected {expected.shape}")
        return 0
    differing = int((expected != got).sum())
    allowed = allowed_pixels(expected, bounds)
    if differing > allowed:
        misses.append(f"sem_seg in {differing} pixels, allowed {allowed}")
    return differing


def compare_panoptic(
    expected: PanopticSeg, got: PanopticSeg, bounds: Bounds, misses: list[str]
) -> int:
    """Pixels in another segment; what is out of bounds goes to ``misses``."""
    if expected.labels.shape != got.labels.shape:
        misses.append(f"panoptic_seg is {got.labels.shape}, expected {expected.labels.shape}")
        return 0
    if len(expected.segments) != len(got.segments):
        misses.append(f"{len(got.segments)} segments, expected {len(expected.segments)}")
        return 0
    matched = _matched(expected, got)
    if matched is None:
        misses.append("segments_info has other categories")
        return 0
    differing = int((expected.labels != matched[got.labels]).sum())
    allowed = allowed_of_segments(expected, bounds)
    if differing > allowed:
        misses.append(f"panoptic_seg in {differing} pixels, allowed {allowed}")
    _compare_scores(expected, got, matched, bounds, misses)
    return differing


def allowed_pixels(labels: Int32, bounds: Bounds) -> int:
    """How many pixels of a map may have another label."""
    return max(_PIXELS_ALWAYS, int(bounds.label_share * labels.size))


def allowed_of_segments(expected: PanopticSeg, bounds: Bounds) -> int:
    """How many pixels of a panoptic map may be in another segment."""
    of_masks = _PIXELS_ALWAYS * len(expected.segments) if bounds.mask_iou < 1 else 0
    return allowed_pixels(expected.labels, bounds) + of_masks


def _matched(expected: PanopticSeg, got: PanopticSeg) -> Int32 | None:
    """The expected id of each id that was got: things of equal scores have no order of their own.

    None where a segment has no counterpart of its category.
    """
    ids = np.zeros(max((segment.id for segment in got.segments), default=0) + 1, np.int32)
    free = {segment.id: segment for segment in got.segments}
    for segment in expected.segments:
        inside = np.bincount(got.labels[expected.labels == segment.id], minlength=len(ids))
        alike = [
            each
            for each in free.values()
            if (each.isthing, each.category_id) == (segment.isthing, segment.category_id)
        ]
        if not alike:
            return None
        best = max(alike, key=lambda each: int(inside[each.id]))
        ids[best.id] = segment.id
        del free[best.id]
    return ids


def _compare_scores(
    expected: PanopticSeg, got: PanopticSeg, matched: Int32, bounds: Bounds, misses: list[str]
) -> None:
    scores = {segment.id: segment.score for segment in expected.segments}
    apart = max(
        (
            abs((scores[int(matched[each.id])] or 0.0) - (each.score or 0.0))
            for each in got.segments
        ),
        default=0.0,
    )
    if apart > bounds.score:
        misses.append(f"segments' scores by {apart:.3g}, allowed {bounds.score:g}")
