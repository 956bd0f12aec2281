"""Results as detectron2's own structures, as DefaultPredictor returns them.

Code written for them (evaluators, visualizers, trackers) goes on working when the model has moved
to a server.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from d2serve.client.errors import Detectron2Unavailable, InvalidInput
from d2serve.client.results.extras import Array, as_array, stacked
from d2serve.client.results.instances import (
    XYWHA,
    Instance,
    Proposal,
    have_all,
    keypoints_of,
)
from d2serve.client.results.packages import load
from d2serve.client.results.segments import PanopticSeg, PanopticSegment, SemSeg
from d2serve.handlers.spec.extras import IMAGE, INSTANCE, TENSOR, Extra

_WHY = (
    "to_detectron2() makes detectron2's own structures",
    "Install detectron2 and its torch in this environment; without them, the prediction's own "
    "fields hold the same: instances, proposals, "
    "sem_seg.label_map(), panoptic_seg.label_map().",
    Detectron2Unavailable,
)


def detectron2_outputs(
    size: tuple[int, int],
    instances: Sequence[Instance] | None,
    proposals: Sequence[Proposal] | None,
    sem_seg: SemSeg | None,
    panoptic_seg: PanopticSeg | None,
    extras: tuple[Sequence[Extra], Mapping[str, Any]],
    sem_seg_classes: int | None,
) -> dict[str, Any]:
    """See Prediction.to_detectron2; ``size`` is (height, width) of the image.

    ``extras`` are the reply's ``extra_fields`` and the image's ``extra``.
    """
    fields, of_image = extras
    structures, torch = (load(each, *_WHY) for each in ("detectron2.structures", "torch"))
    outputs: dict[str, Any] = {}
    if sem_seg is not None:
        outputs["sem_seg"] = _one_hot(torch, sem_seg, sem_seg_classes)
    if instances is not None:
        # Where there is no instance, only a panoptic reply says that there are masks.
        has_masks = have_all(instances, "segmentation") or (
            not instances and panoptic_seg is not None
        )
        found = _instances(structures, torch, size, instances, has_masks)
        own = stacked(fields, [each.extra for each in instances])
        for field in fields:
            if field.per == INSTANCE:
                found.set(field.name, _own(structures, torch, own[field.name], field))
        outputs["instances"] = found
    if panoptic_seg is not None:
        outputs["panoptic_seg"] = _panoptic_seg(torch, panoptic_seg)
    if proposals is not None:
        boxes = _rows(torch, [proposal.bbox for proposal in proposals], 4)
        logits = [proposal.objectness_logit for proposal in proposals]
        outputs["proposals"] = structures.Instances(
            size,
            proposal_boxes=structures.Boxes(boxes),
            objectness_logits=torch.tensor(logits, dtype=torch.float32),
        )
    for field in fields:
        if field.per == IMAGE:
            value = as_array(of_image[field.name], field)
            outputs[field.name] = _own(structures, torch, value, field)
    return outputs


def _own(structures: Any, torch: Any, values: Array, field: Extra) -> Any:
    tensor = torch.from_numpy(np.array(values))  # of its own memory, which may be written
    return tensor if field.kind == TENSOR else getattr(structures, field.kind)(tensor)


def _panoptic_seg(torch: Any, panoptic_seg: PanopticSeg) -> tuple[Any, Any]:
    ids = torch.from_numpy(panoptic_seg.label_map())
    labels = {each.id: each.detectron2_label for each in panoptic_seg.segments_info}
    if labels and all(label is not None for label in labels.values()):
        # As Panoptic-DeepLab has it: a label at each pixel, -1 for none, and no description.
        of_id = torch.full((max(labels) + 1,), -1, dtype=torch.int64)
        for number, label in labels.items():
            of_id[number] = label
        return of_id[ids.long()], None
    return ids, [_segment_info(segment) for segment in panoptic_seg.segments_info]


def _instances(
    structures: Any, torch: Any, size: tuple[int, int], found: Sequence[Instance], has_masks: bool
) -> Any:
    boxes = [instance.bbox for instance in found]
    if found and found[0].bbox_mode == XYWHA:
        pred_boxes = structures.RotatedBoxes(_rows(torch, boxes, 5))
    else:
        pred_boxes = structures.Boxes(_rows(torch, boxes, 4))
    instances = structures.Instances(
        size,
        pred_boxes=pred_boxes,
        scores=torch.tensor([instance.score for instance in found], dtype=torch.float32),
        pred_classes=torch.tensor([i.category_id for i in found], dtype=torch.int64),
    )
    if has_masks:
        masks = np.empty((len(found), *size), np.bool_)
        for mask, instance in zip(masks, found):
            mask[:] = instance.mask()
        instances.pred_masks = torch.from_numpy(masks)
    keypoints = keypoints_of(found)
    if keypoints is not None:
        instances.pred_keypoints = torch.from_numpy(keypoints)
    return instances


def _rows(torch: Any, rows: Sequence[Sequence[float]], length: int) -> Any:
    return torch.tensor(rows, dtype=torch.float32).reshape(len(rows), length)


def _one_hot(torch: Any, sem_seg: SemSeg, classes: int | None) -> Any:
    labels = torch.from_numpy(sem_seg.label_map()).long()
    needed = 1 + max((each.category_id for each in sem_seg.classes), default=-1)
    if classes is not None and classes < needed:
        raise InvalidInput(
            f"sem_seg_classes is {classes}, but class {needed - 1} is in the image: expected the "
            f"number of classes the model tells apart, at least {needed}."
        )
    one_hot = torch.zeros((classes or needed, *sem_seg.size), dtype=torch.float32)
    return one_hot.scatter_(0, labels[None], 1.0)


def _segment_info(segment: PanopticSegment) -> dict[str, Any]:
    # detectron2 gives an area for stuff only; MaskFormer's way gives nothing of this.
    merged = ("score", "instance_id") if segment.score is not None else ()
    own = merged if segment.isthing else ("area",)
    return {name: getattr(segment, name) for name in ("id", "isthing", "category_id", *own)}
