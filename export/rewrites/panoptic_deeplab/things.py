"""Boxes, scores and masks of Panoptic-DeepLab's things, off its maps.

``Things`` does what detectron2 does, one thing after another, in a scripted function, which a trace
keeps, and so gives the same digits. ONNX has no such loop: there all things are computed at once.
"""

# No `from __future__ import annotations` here: TorchScript cannot read postponed annotations.

from typing import Tuple  # noqa: UP035  # TorchScript reads these

import torch
from torch import Tensor, nn
from torch.nn import functional

from d2serve.export.rewrites.rewrite import ONNX, Rewrite

# ruff: noqa: UP006
# mypy: disable-error-code="untyped-decorator"

Found = Tuple[Tensor, Tensor, Tensor, Tensor]
"""Boxes (N, 4), scores (N,), classes (N,) and masks (N, H, W), not zero inside."""


@torch.jit.script
def _one_by_one(
    ids: Tensor, segments: Tensor, logits: Tensor, heatmap: Tensor
) -> Tuple[Tensor, Tensor, Tensor, Tensor]:
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


class Things(nn.Module):
    """What is known of each segment that is a thing."""

    def forward(
        self, ids: Tensor, segments: Tensor, logits: Tensor, heatmap: Tensor
    ) -> Tuple[Tensor, Tensor, Tensor, Tensor]:
        """See ``Found``. A score is the mean probability of the class times the middle's heat.

        Args:
            ids: (H, W) int64, of segments.
            segments: (S, 4), as ``grouping.segments_of`` gives them.
            logits: (C, H, W)
            heatmap: (1, H, W), how much a pixel is a center.
        """
        found: Tuple[Tensor, Tensor, Tensor, Tensor] = _one_by_one(ids, segments, logits, heatmap)
        return found


class ThingsAtOnce(nn.Module):
    """The same for all things together, but for the last digits of the means."""

    def forward(
        self, ids: Tensor, segments: Tensor, logits: Tensor, heatmap: Tensor
    ) -> Tuple[Tensor, Tensor, Tensor, Tensor]:
        """See ``Things.forward``."""
        things = segments[segments[:, 2] > 0]
        kinds = things[:, 1]
        masks = ids.unsqueeze(0) == things[:, 0].reshape(-1, 1, 1)
        inside = masks.to(torch.float32)
        area = inside.sum(dim=(1, 2))
        probabilities = functional.softmax(logits, dim=0)[kinds]
        likely = (probabilities * inside).sum(dim=(1, 2)) / area
        across, down = inside.sum(dim=1), inside.sum(dim=2)  # (N, W) and (N, H) pixels
        columns = torch.ones_like(across[:1]).cumsum(1) - 1
        rows = torch.ones_like(down[:1]).cumsum(1) - 1
        row, column = _middle(down, rows, area), _middle(across, columns, area)
        heat = heatmap[0].flatten()[row * heatmap.shape[2] + column]
        boxes = torch.stack(
            (
                _first(across, columns),
                _first(down, rows),
                _last(across, columns),
                _last(down, rows),
            ),
            dim=1,
        )
        return boxes, likely * heat, kinds, masks.to(torch.uint8)


def _middle(pixels: Tensor, places: Tensor, area: Tensor) -> Tensor:
    # In whole numbers: a mean of 50 that comes out as 49.99 would be another pixel.
    moments = (pixels.to(torch.int64) * places.to(torch.int64)).sum(dim=1)
    return torch.div(moments, area.to(torch.int64), rounding_mode="floor")


def _first(pixels: Tensor, places: Tensor) -> Tensor:
    return torch.where(pixels > 0, places, torch.full_like(places, 1e9)).min(dim=1)[0]


def _last(pixels: Tensor, places: Tensor) -> Tensor:
    return torch.where(pixels > 0, places + 1, torch.zeros_like(places)).max(dim=1)[0]


def _at_once(_module: nn.Module) -> nn.Module:
    return ThingsAtOnce()


PANOPTIC_DEEPLAB_THINGS_ONNX = Rewrite(
    name="panoptic_deeplab_things_onnx",
    replaces=Things,
    methods=(),
    needed_for=frozenset({ONNX}),
    reason="projects/panoptic_deeplab/panoptic_seg.py: the loop over things, which ONNX cannot "
    "express, at once",
    make=_at_once,
)
