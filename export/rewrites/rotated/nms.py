"""NMS of rotated boxes in plain operators: no server has detectron2's compiled ``nms_rotated``.

Upstream (layers/csrc/nms_rotated) walks down the scores and drops what overlaps a box it has kept.
Which pairs overlap enough is found at once here; then "kept unless one that is kept, and scores
higher, suppresses it" is repeated until nothing changes, which ends at the same answer.
"""

# No `from __future__ import annotations` here: TorchScript cannot read postponed annotations.

import torch
from torch import Tensor

from d2serve.export.rewrites.rotated.iou import may_meet, paired_iou

# mypy: disable-error-code="untyped-decorator, no-any-return"


# As a script, since the number of rounds and of chunks depends on the boxes.
@torch.jit.script_if_tracing
def nms_rotated(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """Non-maximum suppression of rotated boxes.

    Args:
        boxes: (N, 5): centre x and y, width, height, degrees counterclockwise.
        scores: (N,).
        iou_threshold: at this overlap, or above, the lower score is dropped.

    Returns:
        int64 indices of those kept, by falling score.
    """
    # As upstream sorts: boxes of equal score come in the same order.
    order = scores.sort(0, descending=True)[1]
    ranked = boxes[order].float()
    pairs = _suppressing(ranked, iou_threshold)
    return order[_kept(pairs[:, 0], pairs[:, 1], ranked.shape[0])]


@torch.jit.script_if_tracing
def batched_nms_rotated(
    boxes: Tensor, scores: Tensor, classes: Tensor, iou_threshold: float
) -> Tensor:
    """The same within each class: upstream's way of moving classes apart, in float32 as well.

    Args:
        boxes: (N, 5).
        scores: (N,).
        classes: (N,) integers.
        iou_threshold: as in ``nms_rotated``.
    """
    if boxes.numel() == 0:
        return torch.empty((0,), dtype=torch.int64, device=boxes.device)
    boxes = boxes.float()
    half = torch.max(boxes[:, 2], boxes[:, 3]) / 2
    top = (torch.max(boxes[:, 0], boxes[:, 1]) + half).max()
    bottom = (torch.min(boxes[:, 0], boxes[:, 1]) - half).min()
    shift = classes.to(boxes) * (top - bottom + 1)
    moved = torch.cat((boxes[:, :2] + shift[:, None], boxes[:, 2:]), dim=1)
    return nms_rotated(moved, scores, iou_threshold)


def _suppressing(boxes: Tensor, iou_threshold: float, rows: int = 256) -> Tensor:
    """(P, 2): every box, and one behind it that it would suppress."""
    found = [torch.zeros((0, 2), dtype=torch.int64, device=boxes.device)]
    for start in range(0, boxes.shape[0], rows):
        ahead, behind = boxes[start : start + rows], boxes[start:]
        near = may_meet(ahead.unsqueeze(1), behind.unsqueeze(0)).triu(1).nonzero()
        first, second = ahead[near[:, 0]], behind[near[:, 1]]
        near = near[may_suppress(first, second, iou_threshold)]
        overlap = paired_iou(ahead[near[:, 0]], behind[near[:, 1]])
        # In float64, as upstream compares them.
        found.append(near[overlap.double() >= iou_threshold] + start)
    return torch.cat(found)


def may_suppress(first: Tensor, second: Tensor, iou_threshold: float) -> Tensor:
    """Whether the IoU of each pair, as upstream computes it, may reach a threshold.

    It is bounded by the part of one box that a rectangle along its sides, around the other,
    covers. Upstream answers too much at times for sides that are nearly parallel or under a
    tenth of a pixel; those are not judged here.
    """
    area1, area2 = first[:, 2] * first[:, 3], second[:, 2] * second[:, 3]
    turn = torch.deg2rad(first[:, 4] - second[:, 4])
    cos, sin = torch.cos(turn).abs(), torch.sin(turn).abs()
    most = torch.minimum(_covered(first, second, cos, sin), _covered(second, first, cos, sin))
    parallel = torch.minimum(cos, sin) < 1e-3
    small = torch.minimum(first[:, 2:4], second[:, 2:4]).amin(1) < 0.1
    # Written so that what is not a number counts as possible.
    return ~(most * 1.001 < iou_threshold * (area1 + area2 - most)) | parallel | small


def _covered(box: Tensor, other: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """(P,): area that two boxes share at most, as seen along the sides of the first."""
    angle = torch.deg2rad(box[:, 4])
    x, y = other[:, 0] - box[:, 0], other[:, 1] - box[:, 1]
    along = (x * torch.cos(angle) - y * torch.sin(angle)).abs()
    across = (x * torch.sin(angle) + y * torch.cos(angle)).abs()
    width, height = other[:, 2] * cos + other[:, 3] * sin, other[:, 2] * sin + other[:, 3] * cos
    shared_width = _shared(along, box[:, 2], width)
    return shared_width * _shared(across, box[:, 3], height)


def _shared(apart: Tensor, length: Tensor, other: Tensor) -> Tensor:
    """How much two intervals of some lengths share, their middles being apart."""
    return torch.minimum(torch.minimum(length, other), ((length + other) / 2 - apart).clamp(min=0))


def _kept(ahead: Tensor, behind: Tensor, number: int) -> Tensor:
    """(number,) bool. Each round settles at least the next box, and mostly nearly all."""
    kept = torch.ones(number, dtype=torch.int64, device=ahead.device)
    changed = True
    while changed:
        hits = torch.zeros_like(kept).index_add(0, behind, kept[ahead])
        now = (hits == 0).long()
        changed = not torch.equal(now, kept)
        kept = now
    return kept > 0
