"""Boxes as Caffe2's operators transform, clip and suppress them (generate_proposals_op_util_*.h).

Boxes are (N, 4) x0, y0, x1, y1. With ``plus_one``, a box of Caffe2's first years reaches to the end
of its last pixel, so that it is one wider and higher than its coordinates differ.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torchvision
from torch import Tensor

# Deltas beyond this would enlarge an anchor more than 62 times.
_LARGEST_SCALE = math.log(1000.0 / 16.0)


def transformed(boxes: Tensor, deltas: Tensor, weights: Sequence[float], plus_one: bool) -> Tensor:
    """Boxes moved and scaled by what a network predicts for them.

    Args:
        boxes: (N, 4).
        deltas: (N, 4) dx, dy, dw, dh.
        weights: four, by which the deltas are divided.
    """
    one = float(plus_one)
    sizes = boxes[:, 2:] - boxes[:, :2] + one
    centres = boxes[:, :2] + 0.5 * sizes
    scaled = deltas / deltas.new_tensor(weights)
    centres = scaled[:, :2] * sizes + centres
    sizes = scaled[:, 2:].clamp(max=_LARGEST_SCALE).exp() * sizes
    return torch.cat([centres - 0.5 * sizes, centres + 0.5 * sizes - one], dim=1)


def clipped(boxes: Tensor, height: int, width: int, plus_one: bool) -> Tensor:
    """Boxes within an image."""
    limits = boxes.new_tensor([width, height, width, height]) - float(plus_one)
    return boxes.minimum(limits).clamp(min=0)


def suppressed(
    boxes: Tensor, scores: Tensor, threshold: float, most: int, plus_one: bool
) -> Tensor:
    """(K,) indices of the boxes that no better one overlaps by more than the threshold.

    Args:
        boxes: (N, 4), by falling score.
        scores: (N,).
        threshold: of the IoU.
        most: boxes to keep; 0 or less is all.
    """
    if plus_one:
        boxes = boxes + boxes.new_tensor([0, 0, 1, 1])
    places = torch.arange(len(boxes), device=boxes.device)
    # The IoU of two boxes without area is 0 / 0, which Caffe2 takes for more than any threshold: of
    # all such boxes it keeps the best, and torchvision would keep every one.
    empty = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]) == 0
    if empty.sum() > 1:
        places = places[~empty | (empty.cumsum(0) == 1)]
    kept = places[torchvision.ops.nms(boxes[places], scores[places], threshold)]
    return kept[:most] if most > 0 else kept
