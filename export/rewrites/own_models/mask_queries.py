"""Equivalents, in tensors, of what set predictors do to their queries in Python loops.

MaskFormer's models, and those made after them, end in two methods that take the class logits
(Q, K + 1) and the mask logits (Q, H, W) of their queries. ``panoptic_inference`` builds its list of
segments in a loop over the queries, and ``instance_inference`` asks of each label whether it is a
thing: a trace would hold the answers for one image. They are found by name and arguments, since
the projects bring them, each its own copy. Whether an equivalent is one is not taken on trust: it
is compared with the model's own method on the sample image (reading/own_models/equivalents.py).
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

import torch
from detectron2.structures import Boxes, Instances
from torch import Tensor, nn
from torch.nn import functional

from d2serve.export.rewrites.method_overrides import override_methods
from d2serve.export.rewrites.rewrite import TRACING, Rewrite

PANOPTIC_INFERENCE, INSTANCE_INFERENCE = "panoptic_inference", "instance_inference"
ARGUMENTS = ["mask_cls", "mask_pred"]

# MaskFormer's: a pixel belongs to a query's mask from this probability on.
_INSIDE = 0.5


@dataclass(frozen=True)
class Segments:
    """segments_info as a tensor."""

    table: Tensor
    """(S, 3) int64: id, category_id, isthing."""

    def as_dicts(self) -> list[dict[str, Any]]:
        """As detectron2 has them."""
        return [
            {"id": number, "isthing": bool(isthing), "category_id": category}
            for number, category, isthing in self.table.tolist()
        ]


def panoptic_in_tensors(model: Any, mask_cls: Tensor, mask_pred: Tensor) -> tuple[Tensor, Segments]:
    """What ``panoptic_inference`` of MaskFormer answers.

    Args:
        model: has num_classes of its sem_seg_head, the two thresholds and metadata of things.
        mask_cls: (Q, K + 1) logits.
        mask_pred: (Q, H, W) logits.

    Returns:
        (H, W) int32 ids of segments, 0 for none; and the segments.
    """
    scores, labels = functional.softmax(mask_cls, dim=-1).max(-1)
    kept = (labels != model.sem_seg_head.num_classes) & (scores > model.object_mask_threshold)
    scores, labels = scores[kept], labels[kept]
    masks = mask_pred.sigmoid()[kept]
    # One more, which is empty and behind all others: no query may be kept.
    masks = torch.cat([masks, torch.zeros_like(mask_pred[:1])])
    scores = torch.cat([scores, scores.new_zeros(1)])
    labels = torch.cat([labels, labels.new_zeros(1)])
    owner = (scores[:, None, None] * masks).argmax(0)
    numbers = torch.ones_like(labels).cumsum(0) - 1
    owned = owner[None] == numbers[:, None, None]
    inside = masks >= _INSIDE
    areas = owned.flatten(1).sum(1)
    own_areas = inside.flatten(1).sum(1)
    visible = (owned & inside).flatten(1).sum(1)
    # As Python divides, in double precision.
    share = areas.double() / own_areas.clamp(min=1).double()
    valid = (visible > 0) & (share >= model.overlap_threshold)
    isthing = _are_things(model, labels)
    # Stuff of one kind is one segment: that of the first query of its class.
    same = (labels[:, None] == labels[None]) & ~isthing[None] & valid[None]
    earlier = numbers[None] < numbers[:, None]
    opens = valid & (isthing | ~(same & earlier).any(1))
    ids = opens.to(torch.int64).cumsum(0)
    first = torch.where(isthing, numbers, same.to(torch.int64).argmax(1))
    ids = torch.where(valid, ids[first], torch.zeros_like(ids))
    at_pixel = ids[owner] * inside.gather(0, owner[None])[0]
    table = torch.stack([ids, labels, isthing.to(torch.int64)], 1)[opens]
    return at_pixel.to(torch.int32), Segments(table)


def instances_in_tensors(model: Any, mask_cls: Tensor, mask_pred: Tensor) -> Instances:
    """What ``instance_inference`` of Mask2Former answers; arguments as above."""
    scores = functional.softmax(mask_cls, dim=-1)[:, :-1]
    count = model.sem_seg_head.num_classes
    scores, best = scores.flatten(0, 1).topk(model.test_topk_per_image, sorted=False)
    labels = best % count
    masks = mask_pred[torch.div(best, count, rounding_mode="floor")]
    if model.panoptic_on:
        things = _are_things(model, labels)
        scores, labels, masks = scores[things], labels[things], masks[things]
    result = Instances(mask_pred.shape[-2:])
    result.pred_masks = (masks > 0).float()
    result.pred_boxes = Boxes(torch.zeros_like(scores)[:, None].repeat(1, 4))
    inside = result.pred_masks.flatten(1)
    mean = (masks.sigmoid().flatten(1) * inside).sum(1) / (inside.sum(1) + 1e-6)
    result.scores = scores * mean
    result.pred_classes = labels
    return result


def _are_things(model: Any, labels: Tensor) -> Tensor:
    """(N,) whether each label is that of a thing."""
    isthing = torch.zeros_like(labels, dtype=torch.bool)
    for category in model.metadata.thing_dataset_id_to_contiguous_id.values():
        isthing = isthing | (labels == category)
    return isthing


def has_method(module: nn.Module, name: str) -> bool:
    """Whether a module has a method of this name that takes the logits of queries."""
    method = getattr(type(module), name, None)
    if method is None or not hasattr(module, "metadata"):
        return False
    return list(inspect.signature(method).parameters)[1:] == ARGUMENTS


class _Panoptic:
    def panoptic_inference(self, mask_cls: Tensor, mask_pred: Tensor) -> tuple[Tensor, Segments]:
        return panoptic_in_tensors(self, mask_cls, mask_pred)


class _Instances:
    def instance_inference(self, mask_cls: Tensor, mask_pred: Tensor) -> Instances:
        return instances_in_tensors(self, mask_cls, mask_pred)


MASK_QUERIES_PANOPTIC = Rewrite(
    name="mask_queries_panoptic",
    replaces=nn.Module,
    methods=(),
    needed_for=frozenset({TRACING}),
    reason="the model's panoptic_inference: it builds its segments in a Python loop over the "
    "queries, of which a trace holds one image's",
    make=override_methods(_Panoptic),
    applies=lambda module: has_method(module, PANOPTIC_INFERENCE),
)
MASK_QUERIES_INSTANCES = Rewrite(
    name="mask_queries_instances",
    replaces=nn.Module,
    methods=(),
    needed_for=frozenset({TRACING}),
    reason="the model's instance_inference: it asks of each label in Python whether it is a "
    "thing, of which a trace holds one image's answers",
    make=override_methods(_Instances),
    applies=lambda module: (
        has_method(module, INSTANCE_INFERENCE) and hasattr(module, "test_topk_per_image")
    ),
)
