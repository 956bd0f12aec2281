"""Why: what a client does not want is left out before it is written, drawn or sent.

A panoptic map stays as the model's own thresholds made it; its things tell which of the instances
that are left they are.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from d2serve.handlers.outputs.records import Detections, Outputs, PanopticSeg, Proposals
from d2serve.handlers.requests.options import NONE, RequestOptions
from d2serve.handlers.spec.limits import RequestLimits


def select(outputs: Outputs, options: RequestOptions, limits: RequestLimits) -> Outputs:
    """What of an image's outputs is to be answered; the same object where that is all."""
    most = options.max_detections or limits.max_detections
    found, proposals = outputs.instances, outputs.proposals
    if proposals is not None and len(proposals) > most:
        best = Proposals(proposals.boxes[:most], proposals.objectness_logits[:most])
        outputs = replace(outputs, proposals=best)
    if found is None:
        return outputs
    if options.masks == NONE and found.masks is not None:
        found = replace(found, masks=None)
        outputs = replace(outputs, instances=found)
    wanted = np.ones(len(found), np.bool_)
    if options.score_thresh is not None:  # as detectron2 compares its own
        wanted &= found.scores > np.float32(options.score_thresh)
    if options.classes is not None:
        wanted &= np.isin(found.classes, list(options.classes))
    kept = np.flatnonzero(wanted)[:most].tolist()
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
