"""torchvision's ``batched_nms`` (ops/boxes.py) as one graph for any number of boxes.

torchvision suppresses class by class where there are more than 1,000 boxes on a CPU, and otherwise
moves the classes apart and suppresses once. The two round differently. A graph has no branches, so
here each way gets all boxes or none.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.ops import nms

_MANY = 1000
"""Boxes; torchvision's limit for CPUs (4,000 numbers)."""


def batched_nms(
    boxes: Tensor, scores: Tensor, groups: Tensor, iou_threshold: float, count: int
) -> Tensor:
    """Indices of the boxes that are kept, by falling score.

    Args:
        boxes: (N, 4), XYXY.
        scores: (N,).
        groups: (N,), of which classes or levels the boxes are; boxes of one suppress each other.
        iou_threshold: a box goes where it overlaps with a better one by more.
        count: how many groups there are.
    """
    boxes = boxes.float()
    many = torch.scalar_tensor(boxes.shape[0], dtype=torch.int64, device=boxes.device) > _MANY
    few = torch.nonzero(~many.expand(boxes.shape[0])).squeeze(1)
    by_group = _group_by_group(boxes, scores, torch.where(many, groups, -1), iou_threshold, count)
    return torch.cat(
        [by_group, few[moved_apart(boxes[few], scores[few], groups[few], iou_threshold)]]
    )


def moved_apart(boxes: Tensor, scores: Tensor, groups: Tensor, iou_threshold: float) -> Tensor:
    """As ``_batched_nms_coordinate_trick``, for no boxes as well."""
    # Of no boxes there is no largest coordinate.
    lowest = boxes.new_full((1,), float("-inf"))
    largest = torch.cat([boxes.flatten(), lowest]).max()
    offsets = groups.to(boxes.dtype) * (largest + 1.0)
    kept: Tensor = nms(boxes + offsets[:, None], scores, iou_threshold)
    return kept


def _group_by_group(
    boxes: Tensor, scores: Tensor, groups: Tensor, iou_threshold: float, count: int
) -> Tensor:
    """As ``_batched_nms_vanilla``."""
    kept = torch.zeros_like(groups, dtype=torch.bool)
    for group in range(count):
        own = torch.nonzero(groups == group).squeeze(1)
        found = own[nms(boxes[own], scores[own], iou_threshold)]
        kept = kept.index_put((found,), torch.ones_like(found, dtype=torch.bool))
    indices = torch.nonzero(kept).squeeze(1)
    return indices[scores[indices].sort(descending=True)[1]]
