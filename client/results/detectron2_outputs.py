"""Why: code written for detectron2's DefaultPredictor (evaluators, visualizers, trackers) goes on
working when the model has moved to a server.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from d2serve.client.errors import Detectron2Unavailable, InvalidInput, MalformedReply

if TYPE_CHECKING:
    from d2serve.client.results.instances import Instance
    from d2serve.client.results.prediction import Prediction
    from d2serve.client.results.segments import PanopticSegment, SemSeg

_ROTATED = "XYWHA_ABS"


def outputs_of(prediction: Prediction, sem_seg_classes: int | None) -> dict[str, Any]:
    """See Prediction.to_detectron2."""
    # Loaded by name, as a plug-in: clients depend on neither, which import-linter checks, and only
    # who has detectron2 already has a use for its structures.
    structures, torch = _load("detectron2.structures"), _load("torch")
    outputs: dict[str, Any] = {}
    if prediction.sem_seg is not None:
        outputs["sem_seg"] = _one_hot(torch, prediction.sem_seg, sem_seg_classes)
    if prediction.has_instances:
        outputs["instances"] = _instances(structures, torch, prediction)
    if prediction.panoptic_seg is not None:
        outputs["panoptic_seg"] = (
            torch.from_numpy(prediction.panoptic_seg.label_map()),
            [_segment_info(segment) for segment in prediction.panoptic_seg.segments_info],
        )
    if prediction.proposals is not None:
        proposals = prediction.proposals
        boxes = _rows(torch, [proposal.bbox for proposal in proposals], 4)
        logits = [proposal.objectness_logit for proposal in proposals]
        outputs["proposals"] = structures.Instances(
            (prediction.height, prediction.width),
            proposal_boxes=structures.Boxes(boxes),
            objectness_logits=torch.tensor(logits, dtype=torch.float32),
        )
    return outputs


def _load(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise Detectron2Unavailable(
            f"to_detectron2() makes detectron2's own structures, and {name} cannot be imported "
            f"here ({error}). Install detectron2 and its torch in this environment; without them, "
            "the prediction's own fields hold the same: instances, proposals, "
            "sem_seg.label_map(), panoptic_seg.label_map()."
        ) from error


def _instances(structures: Any, torch: Any, prediction: Prediction) -> Any:
    found = prediction.instances
    boxes = [instance.bbox for instance in found]
    if found and found[0].bbox_mode == _ROTATED:
        pred_boxes = structures.RotatedBoxes(_rows(torch, boxes, 5))
    else:
        pred_boxes = structures.Boxes(_rows(torch, boxes, 4))
    instances = structures.Instances(
        (prediction.height, prediction.width),
        pred_boxes=pred_boxes,
        scores=torch.tensor([instance.score for instance in found], dtype=torch.float32),
        pred_classes=torch.tensor([i.category_id for i in found], dtype=torch.int64),
    )
    # Where there is no instance, only a panoptic reply tells that there are masks.
    if _all_or_none(found, "segmentation") or (not found and prediction.panoptic_seg is not None):
        masks = np.empty((len(found), prediction.height, prediction.width), np.bool_)
        for mask, instance in zip(masks, found):
            mask[:] = instance.mask()
        instances.pred_masks = torch.from_numpy(masks)
    if _all_or_none(found, "keypoints"):
        keypoints = [instance.keypoints or () for instance in found]
        if len({len(points) for points in keypoints}) > 1:
            raise MalformedReply(
                "The instances have different numbers of keypoints, expected one number for a "
                "model: the reply was not made by d2serve."
            )
        array = np.array(keypoints, np.float32).reshape(len(found), -1, 3)
        instances.pred_keypoints = torch.from_numpy(array)
    return instances


def _all_or_none(instances: Sequence[Instance], name: str) -> bool:
    having = sum(getattr(instance, name) is not None for instance in instances)
    if having not in (0, len(instances)):
        raise MalformedReply(
            f"{having} of {len(instances)} instances have {name!r}, expected all or none: the "
            "reply was not made by d2serve."
        )
    return having > 0


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
    # detectron2 gives an area for stuff only.
    own = ("score", "instance_id") if segment.isthing else ("area",)
    return {name: getattr(segment, name) for name in ("id", "isthing", "category_id", *own)}
