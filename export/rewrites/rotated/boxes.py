"""Arithmetic on rotated boxes as (N, 5) tensors: centre x and y, width, height, degrees.

detectron2's RotatedBoxes change in place, and its helpers are typed for upright boxes, so no
program can hold them.
"""

# No `from __future__ import annotations` here: TorchScript cannot read postponed annotations.

import torch
from torch import Tensor


def clipped(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Angles within [-180, 180), and boxes turned by a degree at most cut at the image's border.

    ``RotatedBoxes.clip`` of structures/rotated_boxes.py, which says why others are left whole.

    Args:
        boxes: (N, 5).
        size: height and width of the image.
    """
    x, y, width, height = boxes[:, 0], boxes[:, 1], boxes[:, 2], boxes[:, 3]
    angle = (boxes[:, 4] + 180.0) % 360.0 - 180.0
    left, right = x - width / 2, x + width / 2
    top, bottom = y - height / 2, y + height / 2
    left, right = left.clamp(min=0, max=size[1]), right.clamp(min=0, max=size[1])
    top, bottom = top.clamp(min=0, max=size[0]), bottom.clamp(min=0, max=size[0])
    upright = angle.abs() <= 1.0
    return torch.stack(
        (
            torch.where(upright, (left + right) / 2, x),
            torch.where(upright, (top + bottom) / 2, y),
            torch.where(upright, torch.minimum(width, right - left), width),
            torch.where(upright, torch.minimum(height, bottom - top), height),
            angle,
        ),
        dim=1,
    )


def finite(rows: Tensor) -> Tensor:
    """Which rows are made of numbers alone."""
    return torch.isfinite(rows).all(dim=1)


# As a script, so that a trace keeps the comparison of sizes.
@torch.jit.script_if_tracing  # type: ignore[untyped-decorator]
def top_rows(boxes: Tensor, scores: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """The boxes of highest score of each image, at most so many.

    Args:
        boxes: (N, R, 5).
        scores: (N, R).
        most: how many.

    Returns:
        (N, K, 5) and their (N, K) scores.
    """
    best, index = scores.topk(min(most, scores.shape[1]), dim=1)
    return boxes.gather(1, index.unsqueeze(2).expand(-1, -1, 5)), best


def pooler_levels(
    rois: Tensor, least: int, most: int, canonical_size: int, canonical_level: int
) -> Tensor:
    """The pyramid level of each box, from 0: ``assign_boxes_to_levels`` of modeling/poolers.py.

    Args:
        rois: (R, 6): index of the image, box.
        least: the lowest level there is.
        most: the highest.
        canonical_size: a box of this many pixels squared belongs to ``canonical_level``.
        canonical_level: see there.
    """
    sizes = torch.sqrt(rois[:, 3] * rois[:, 4])
    level = torch.floor(canonical_level + torch.log2(sizes / canonical_size + 1e-8))
    return torch.clamp(level, min=least, max=most).to(torch.int64) - least
