"""Results as the records that the handlers work with, to be drawn or compared as they are there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from d2serve.client.results.extras import as_array, stacked
from d2serve.client.results.instances import XYWHA, Instance, Proposal, have_all, keypoints_of
from d2serve.client.results.segments import PanopticSeg, SemSeg
from d2serve.handlers.outputs import records
from d2serve.handlers.spec.extras import IMAGE, Extra


def handler_outputs(
    size: tuple[int, int],
    instances: Sequence[Instance] | None,
    proposals: Sequence[Proposal] | None,
    sem_seg: SemSeg | None,
    panoptic_seg: PanopticSeg | None,
    extras: tuple[Sequence[Extra], Mapping[str, Any]] = ((), {}),
) -> records.Outputs:
    """See Prediction.to_outputs; ``size`` is (height, width) of the image.

    ``extras`` are the reply's ``extra_fields`` and the image's ``extra``.
    """
    fields, of_image = extras
    return records.Outputs(
        height=size[0],
        width=size[1],
        instances=None if instances is None else _detections(size, instances, fields),
        sem_seg=None if sem_seg is None else sem_seg.label_map(),
        panoptic_seg=None if panoptic_seg is None else _panoptic_seg(panoptic_seg),
        proposals=None if proposals is None else _proposals(proposals),
        extra={
            each.name: as_array(of_image[each.name], each) for each in fields if each.per == IMAGE
        },
    )


def _detections(
    size: tuple[int, int], found: Sequence[Instance], fields: Sequence[Extra]
) -> records.Detections:
    rotated = bool(found) and found[0].bbox_mode == XYWHA
    masks = [each.segmentation for each in found] if have_all(found, "segmentation") else []
    return records.Detections(
        height=size[0],
        width=size[1],
        boxes=_rows([each.bbox for each in found], 5 if rotated else 4),
        scores=np.array([each.score for each in found], np.float32),
        classes=np.array([each.category_id for each in found], np.int64),
        masks=tuple(mask.rle() for mask in masks if mask is not None) or None,
        keypoints=keypoints_of(found),
        extra=stacked(fields, [each.extra for each in found]),
    )


def _panoptic_seg(panoptic_seg: PanopticSeg) -> records.PanopticSeg:
    segments = tuple(
        records.Segment(
            id=each.id,
            category_id=each.category_id,
            isthing=each.isthing,
            area=each.area,
            score=each.score,
            instance_id=each.instance_id,
            label=each.detectron2_label,
        )
        for each in panoptic_seg.segments_info
    )
    return records.PanopticSeg(panoptic_seg.label_map(), segments)


def _proposals(proposals: Sequence[Proposal]) -> records.Proposals:
    return records.Proposals(
        boxes=_rows([each.bbox for each in proposals], 4),
        objectness_logits=np.array([each.objectness_logit for each in proposals], np.float32),
    )


def _rows(rows: Sequence[Sequence[float]], numbers: int) -> records.Float32:
    return np.array(rows, np.float32).reshape(len(rows), numbers)
