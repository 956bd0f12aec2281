"""Boxes, scores and masks of Panoptic-DeepLab's things, off its maps.

It does what detectron2 does, one thing after another, in a scripted function, which a trace keeps.
"""

# No `from __future__ import annotations` here: TorchScript cannot read postponed annotations.

from typing import Tuple  # noqa: UP035  # TorchScript reads these

import torch
from torch import Tensor
from torch.nn import functional

# ruff: noqa: UP006
# mypy: disable-error-code="untyped-decorator"


@torch.jit.script
def things_of(
    ids: Tensor, segments: Tensor, logits: Tensor, heatmap: Tensor
) -> Tuple[Tensor, Tensor, Tensor, Tensor]:
    """What is known of each segment that is a thing.

    A score is the mean probability of the class times how much the thing's middle is a center.

    Args:
        ids: (H, W) int64, of segments.
        segments: (S, 4), as ``grouping.segments_of`` gives them.
        logits: (C, H, W)
        heatmap: (1, H, W), how much a pixel is a center.

    Returns:
        Boxes (N, 4), scores (N,), classes (N,) and masks (N, H, W), not zero inside.
    """
    probabilities = functional.softmax(logits, dim=0)
    things = segments[segments[:, 2] > 0]
    boxes = torch.zeros_like(things).to(torch.float32)
    scores = boxes[:, 0].clone()
    masks = ids.unsqueeze(0) == things[:, 0].reshape(-1, 1, 1)
    for index in range(things.shape[0]):
        mask = masks[index]
        likely = torch.mean(probabilities[int(things[index, 1])][mask])
        places = torch.nonzero(mask)
        of_place = places.float()
        row, column = int(torch.mean(of_place[:, 0])), int(torch.mean(of_place[:, 1]))
        scores[index] = likely * heatmap[0, row, column]
        least, most = places.min(dim=0)[0], places.max(dim=0)[0] + 1
        boxes[index] = torch.stack((least[1], least[0], most[1], most[0])).to(torch.float32)
    return boxes, scores, things[:, 1], masks.to(torch.uint8)
