"""Merges instances and sem_seg, which overlap, into a map that gives each pixel to one of them.

This is detectron2's ``combine_semantic_and_instance_outputs`` (modeling/meta_arch/panoptic_fpn.py):
instances by falling score, each where no better one is; then stuff in what is left. Masks stay
run lengths until they are painted, and are painted in the columns that they cover: those runs go
down the columns, so these lie in one piece in a map that is laid out by columns.
"""

from __future__ import annotations

import numpy as np

from d2serve.handlers.outputs.records import Detections, Int32, PanopticSeg, Segment
from d2serve.handlers.outputs.rle import run_lengths
from d2serve.handlers.spec.model_spec import PanopticMerge


def merge(instances: Detections, sem_seg: Int32, thresholds: PanopticMerge) -> PanopticSeg:
    """The panoptic map of an image.

    Args:
        instances: with masks, by falling score.
        sem_seg: (H, W) labels; 0 is what the semantic head calls all things.
        thresholds: the model's.
    """
    by_column = np.zeros(sem_seg.size, np.int32)
    segments = _paint_things(by_column, instances, thresholds)
    labels = np.ascontiguousarray(by_column.reshape(sem_seg.shape[::-1]).T)
    return _paint_stuff(labels, segments, sem_seg, thresholds.stuff_area_limit)


def _paint_things(
    by_column: Int32, instances: Detections, thresholds: PanopticMerge
) -> list[Segment]:
    taken = np.zeros(by_column.shape, np.bool_)
    segments: list[Segment] = []
    for index, rle in enumerate(instances.masks or ()):
        score = float(instances.scores[index])
        if score < thresholds.instances_confidence_thresh:
            break
        lengths = run_lengths(rle)
        area = int(lengths[1::2].sum())
        if area == 0:
            continue
        # From the first pixel of the mask on; a last run of zeros is beyond it.
        runs = lengths[1 : len(lengths) // 2 * 2]
        place = slice(lengths[0], lengths[0] + runs.sum())
        mask = np.repeat(np.arange(len(runs)) % 2 == 0, runs)
        overlap = int(np.count_nonzero(mask & taken[place]))
        if overlap / area > thresholds.overlap_thresh:
            continue
        mask &= ~taken[place]
        taken[place] |= mask
        number = len(segments) + 1
        np.copyto(by_column[place], number, where=mask)
        category = int(instances.classes[index])
        segments.append(Segment(number, category, True, area - overlap, score, index))
    return segments


def _paint_stuff(
    labels: Int32, segments: list[Segment], sem_seg: Int32, area_limit: int
) -> PanopticSeg:
    """Adds to ``labels`` and ``segments``."""
    free = labels == 0
    present = np.bincount(sem_seg.ravel())
    areas = np.bincount(sem_seg[free], minlength=len(present))
    number_of = np.zeros(len(present), np.int32)
    for label in np.flatnonzero(present).tolist():
        area = int(areas[label])
        if label == 0 or area < area_limit:
            continue
        number = number_of[label] = len(segments) + 1
        segments.append(Segment(number, label, False, area, None, None))
    np.copyto(labels, number_of[sem_seg], where=free)
    return PanopticSeg(labels, tuple(segments))
