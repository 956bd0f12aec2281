"""Pooling of rotated boxes in plain operators: no server has detectron2's compiled one.

Upstream (layers/csrc/ROIAlignRotated) averages, in each bin of a turned box, bilinear samples on
a grid whose size depends on the box. Here all samples of all boxes are listed first, and then
summed by one ``embedding_bag``, with a bag for each bin: four pixels and weights for each sample.
"""

# No `from __future__ import annotations` here: TorchScript cannot read postponed annotations.

import math

import torch
from detectron2.layers import ROIAlignRotated
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.utils import _pair

from d2serve.export.rewrites.rewrite import SCRIPTING, TRACING, Rewrite

# mypy: disable-error-code="untyped-decorator, no-any-return"


# As a script: how many samples there are depends on the boxes.
@torch.jit.script_if_tracing
def roi_align_rotated(
    features: Tensor, rois: Tensor, scale: float, height: int, width: int, sampling_ratio: int
) -> Tensor:
    """Features of turned boxes, each on a grid of bins.

    Args:
        features: (N, C, H, W).
        rois: (R, 6): index into N, centre x and y, width, height, degrees counterclockwise.
        scale: of ``features`` to the boxes' coordinates.
        height: number of bins.
        width: number of bins.
        sampling_ratio: samples in each direction of a bin; 0 for one in each pixel it spans.

    Returns:
        (R, C, height, width), of the features' dtype.
    """
    channels = features.shape[1]
    if rois.shape[0] == 0:
        return features.new_zeros((0, channels, height, width))
    kind = features.dtype
    if kind != torch.float64:
        # Half precision would not reach the far pixels.
        features, rois = features.float(), rois.float()
    grid_w = torch.full_like(rois[:, 0], float(sampling_ratio))
    grid_h = grid_w
    if sampling_ratio <= 0:
        grid_w = torch.ceil(rois[:, 3] * scale / width)
        grid_h = torch.ceil(rois[:, 4] * scale / height)
    across, down = grid_w.long(), grid_h.long()

    # One entry for each sample of each bin of each box, in this order.
    in_bin = (across * down).repeat_interleave(height * width)
    bins = torch.arange(in_bin.shape[0], device=rois.device)
    owner = bins.repeat_interleave(in_bin)
    starts = in_bin.cumsum(0) - in_bin
    sample = torch.arange(owner.shape[0], device=rois.device) - starts[owner]
    roi = torch.div(owner, height * width, rounding_mode="floor")
    ix = sample % across[roi]
    iy = torch.div(sample, across[roi], rounding_mode="floor")
    bin_x, bin_y = owner % width, torch.div(owner, width, rounding_mode="floor") % height
    x, y = _sample_points(rois, roi, scale, bin_x, bin_y, ix, iy, grid_w, grid_h, height, width)

    pixels, weights = _bilinear(x, y, features.shape[2], features.shape[3])
    pixels = pixels + (rois[:, 0].long()[roi] * (features.shape[2] * features.shape[3])).unsqueeze(
        1
    )
    summed = functional.embedding_bag(
        pixels.flatten(),
        features.permute(0, 2, 3, 1).reshape(-1, channels),
        starts * 4,
        mode="sum",
        per_sample_weights=weights.flatten(),
    )
    means = summed / in_bin.clamp(min=1).to(summed.dtype).unsqueeze(1)
    return means.reshape(-1, height, width, channels).permute(0, 3, 1, 2).to(kind).contiguous()


def _sample_points(
    rois: Tensor,
    roi: Tensor,
    scale: float,
    bin_x: Tensor,
    bin_y: Tensor,
    ix: Tensor,
    iy: Tensor,
    grid_w: Tensor,
    grid_h: Tensor,
    height: int,
    width: int,
) -> tuple[Tensor, Tensor]:
    """Where each sample lies in the features; pixel centres are whole numbers."""
    roi_w, roi_h = rois[:, 3] * scale, rois[:, 4] * scale
    step_w, step_h = roi_w / width, roi_h / height
    # Rounded where upstream rounds: a sample on the border counts in full or not at all.
    theta = (rois[:, 5].double() * math.pi / 180).to(rois.dtype).double()
    cos, sin = torch.cos(theta).to(rois.dtype)[roi], torch.sin(theta).to(rois.dtype)[roi]
    along = (-roi_w / 2)[roi] + bin_x * step_w[roi] + (ix + 0.5) * step_w[roi] / grid_w[roi]
    across = (-roi_h / 2)[roi] + bin_y * step_h[roi] + (iy + 0.5) * step_h[roi] / grid_h[roi]
    x = across * sin + along * cos + (rois[:, 1] * scale - 0.5)[roi]
    y = across * cos - along * sin + (rois[:, 2] * scale - 0.5)[roi]
    return x, y


def _bilinear(x: Tensor, y: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """(S, 4) each: the pixels around each point and their weights; 0 more than a pixel outside."""
    outside = (y < -1) | (y > height) | (x < -1) | (x > width)
    x, y = x.clamp(0, width - 1), y.clamp(0, height - 1)
    x0, y0 = x.floor(), y.floor()
    right, low = x - x0, y - y0
    left, high = 1 - right, 1 - low
    weights = torch.stack((high * left, high * right, low * left, low * right), dim=1)
    column, row = x0.long(), y0.long()
    next_column, next_row = (column + 1).clamp(max=width - 1), (row + 1).clamp(max=height - 1)
    pixels = torch.stack(
        (
            row * width + column,
            row * width + next_column,
            next_row * width + column,
            next_row * width + next_column,
        ),
        dim=1,
    )
    inside = ~outside.unsqueeze(1)
    return torch.where(inside, pixels, torch.zeros_like(pixels)), weights * inside


class PlainROIAlignRotated(nn.Module):
    """detectron2's ROIAlignRotated without its compiled operator."""

    def __init__(
        self, output_size: tuple[int, int], spatial_scale: float, sampling_ratio: int
    ) -> None:
        super().__init__()
        self.height, self.width = int(output_size[0]), int(output_size[1])
        self.spatial_scale = float(spatial_scale)
        self.sampling_ratio = int(sampling_ratio)

    def forward(self, features: Tensor, rois: Tensor) -> Tensor:
        """(N, C, H, W) features and (R, 6) boxes to (R, C, height, width)."""
        return roi_align_rotated(
            features, rois, self.spatial_scale, self.height, self.width, self.sampling_ratio
        )


def _plain(module: nn.Module) -> nn.Module:
    height, width = _pair(module.output_size)
    return PlainROIAlignRotated((height, width), module.spatial_scale, module.sampling_ratio)  # type: ignore[arg-type]


ROI_ALIGN_ROTATED = Rewrite(
    name="roi_align_rotated",
    replaces=ROIAlignRotated,
    methods=("forward",),
    needed_for=frozenset({TRACING, SCRIPTING}),
    reason="layers/roi_align_rotated.py: roi_align_rotated_forward is a compiled operator of "
    "detectron2's, which no server has",
    make=_plain,
)
