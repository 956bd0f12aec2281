"""What differs between the label maps of two answers, and where most of it lies."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from d2serve.export.proof.comparing.label_comparison import allowed_of_segments, allowed_pixels
from d2serve.export.proof.differences.finding import PANOPTIC_SEG, SEM_SEG, Finding, Region
from d2serve.handlers.outputs.records import Int32, Outputs, PanopticSeg
from d2serve.handlers.replies.drawing import Legend
from d2serve.handlers.spec.bounds import Bounds

_NO_COUNTERPART = -1
_WINDOW = 8
"""The part of the image that is looked at closely is an eighth of its longer side."""


def differing_pixels(expected: Outputs, got: Outputs) -> npt.NDArray[np.bool_] | None:
    """(H, W) where the map that is drawn differs; None where there is none to compare."""
    if expected.panoptic_seg is not None and got.panoptic_seg is not None:
        return _panoptic_pixels(expected.panoptic_seg, got.panoptic_seg)
    if expected.sem_seg is not None and got.sem_seg is not None:
        return _different(expected.sem_seg, got.sem_seg)
    return None


def label_findings(
    expected: Outputs, got: Outputs, legend: Legend, bounds: Bounds
) -> Iterator[Finding]:
    """The difference of each map, with the two labels that are taken for each other most often.

    Args:
        expected: eager detectron2's answer.
        got: the archive's.
        legend: what labels and classes are called.
        bounds: within which they agree.
    """
    if expected.sem_seg is not None and got.sem_seg is not None:
        pixels = _different(expected.sem_seg, got.sem_seg)
        if pixels.any():
            mine, theirs = _commonest(expected.sem_seg, got.sem_seg, pixels)
            swap = f"{legend.stuff(mine)} for eager, {legend.stuff(theirs)} for the archive"
            allowed = allowed_pixels(expected.sem_seg, bounds)
            yield _finding(SEM_SEG, pixels, swap, allowed)
    if expected.panoptic_seg is not None and got.panoptic_seg is not None:
        mine_seg, their_seg = expected.panoptic_seg, got.panoptic_seg
        pixels = _panoptic_pixels(mine_seg, their_seg)
        if pixels.any():
            mine, theirs = _commonest(mine_seg.labels, their_seg.labels, pixels)
            swap = (
                f"{_segment(mine_seg, mine, legend)} for eager, "
                f"{_segment(their_seg, theirs, legend)} for the archive"
            )
            yield _finding(PANOPTIC_SEG, pixels, swap, allowed_of_segments(mine_seg, bounds))


def _finding(field: str, pixels: npt.NDArray[np.bool_], swap: str, allowed: int) -> Finding:
    count = int(pixels.sum())
    share = count / pixels.size
    text = f"{field} in {count:,} pixels ({100 * share:.2g} %), most often {swap}"
    return Finding(field, text, float(count), share, count > allowed, densest(pixels))


def densest(pixels: npt.NDArray[np.bool_]) -> Region:
    """The window in which most pixels are set."""
    height, width = pixels.shape
    size = max(24, max(height, width) // _WINDOW)
    total = np.pad(pixels.astype(np.int32).cumsum(axis=0).cumsum(axis=1), ((1, 0), (1, 0)))
    tall, wide = min(size, height), min(size, width)
    inside = (
        total[tall:, wide:] - total[:-tall, wide:] - total[tall:, :-wide] + total[:-tall, :-wide]
    )
    y, x = np.unravel_index(int(inside.argmax()), inside.shape)
    return float(x), float(y), float(x + wide), float(y + tall)


def _panoptic_pixels(expected: PanopticSeg, got: PanopticSeg) -> npt.NDArray[np.bool_]:
    return _different(expected.labels, _renamed(expected, got))


def _renamed(expected: PanopticSeg, got: PanopticSeg) -> Int32:
    """The archive's map with the ids of eager's segments: the numbers themselves mean nothing."""
    ids = np.zeros(max([0, *(each.id for each in got.segments)]) + 1, np.int32)
    free = {each.id: each for each in got.segments}
    for segment in expected.segments:
        inside = np.bincount(_part(got.labels, expected.labels == segment.id), minlength=len(ids))
        alike = [
            each
            for each in free.values()
            if (each.isthing, each.category_id) == (segment.isthing, segment.category_id)
        ]
        if alike:
            best = max(alike, key=lambda each: int(inside[each.id]))
            ids[best.id] = segment.id
            del free[best.id]
    for number in free:
        ids[number] = _NO_COUNTERPART
    return ids[got.labels] if expected.labels.shape == got.labels.shape else got.labels


def _part(labels: Int32, where: npt.NDArray[np.bool_]) -> Int32:
    return labels[where] if labels.shape == where.shape else labels[:0].ravel()


def _different(a: Int32, b: Int32) -> npt.NDArray[np.bool_]:
    if a.shape != b.shape:
        return np.ones(a.shape, np.bool_)
    return np.asarray(a != b)


def _commonest(a: Int32, b: Int32, where: npt.NDArray[np.bool_]) -> tuple[int, int]:
    if a.shape != b.shape:
        return int(a.flat[0]), int(b.flat[0])
    pairs, counts = np.unique(np.stack([a[where], b[where]]), axis=1, return_counts=True)
    mine, theirs = pairs[:, int(counts.argmax())].tolist()
    return mine, theirs


def _segment(panoptic: PanopticSeg, number: int, legend: Legend) -> str:
    for each in panoptic.segments:
        if each.id == number:
            name = legend.category if each.isthing else legend.stuff
            return name(each.category_id)
    return "nothing"
