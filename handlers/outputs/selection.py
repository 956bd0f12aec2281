"""Leaves out what a client does not want, before it costs anything wherever that is exact.

Instances are independent of each other, so those that are not wanted are left out of the program's
raw outputs: no mask of theirs is pasted, no keypoint read off a heatmap. A panoptic merge needs
them all, so there they are left out afterwards; the map stays as the model's own thresholds made
it, and its things say which of the instances that are left they are.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from d2serve.handlers.outputs.records import Detections, Float32, Outputs, PanopticSeg

Indices = npt.NDArray[np.intp]


@dataclass(frozen=True)
class Selection:
    """What of an image's outputs is wanted."""

    score_thresh: float | None = None
    """Instances of this score and below are not."""
    classes: frozenset[int] | None = None
    """Instances of other classes are not."""
    most: int | None = None
    """Of instances, and of proposals; the best are kept. None is all."""
    masks: bool = True

    def wanted(self, scores: Float32, classes: npt.NDArray[np.int64]) -> Indices:
        """Indices of the instances wanted, out of all that are not empty, by falling score."""
        wanted = np.ones(len(scores), np.bool_)
        if self.score_thresh is not None:  # as detectron2 compares its own
            wanted &= scores > np.float32(self.score_thresh)
        if self.classes is not None:
            wanted &= np.isin(classes, list(self.classes))
        return np.flatnonzero(wanted)[: self.most]


EVERYTHING = Selection()


def select(outputs: Outputs, selection: Selection) -> Outputs:
    """What is wanted of outputs that were made of all the instances; the same object if all is."""
    found = outputs.instances
    if found is None:
        return outputs
    if not selection.masks and found.masks is not None:
        found = replace(found, masks=None)
        outputs = replace(outputs, instances=found)
    kept = selection.wanted(found.scores, found.classes).tolist()
    if len(kept) == len(found):
        return outputs
    panoptic = outputs.panoptic_seg
    if panoptic is not None:
        panoptic = _renumbered(panoptic, {old: new for new, old in enumerate(kept)})
    return replace(outputs, instances=_kept(found, kept), panoptic_seg=panoptic)


def _kept(found: Detections, kept: list[int]) -> Detections:
    return replace(
        found,
        boxes=found.boxes[kept],
        scores=found.scores[kept],
        classes=found.classes[kept],
        masks=None if found.masks is None else tuple(found.masks[i] for i in kept),
        keypoints=None if found.keypoints is None else found.keypoints[kept],
        extra={name: values[kept] for name, values in found.extra.items()},
    )


def _renumbered(panoptic: PanopticSeg, places: dict[int, int]) -> PanopticSeg:
    return replace(
        panoptic,
        segments=tuple(
            replace(each, instance_id=places.get(each.instance_id))
            if each.instance_id is not None
            else each
            for each in panoptic.segments
        ),
    )
