"""Deformable convolution in plain operators, since ONNX has none of its own at opset 17.

torch exports no ``torchvision::deform_conv2d``. ONNX has ``DeformConv`` from opset 19 on, which
onnxruntime runs and OpenVINO cannot read ("No conversion rule found for operations:
DeformConv-19"). Sampling by ``GridSample`` and summing by a 1x1 convolution is the same, and runs
on both at opset 17.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  as everybody names it

from d2serve.export.rewrites.deform_conv.torchvision_form import TorchvisionDeformConv
from d2serve.export.rewrites.rewrite import ONNX, Rewrite


class PlainDeformConv(TorchvisionDeformConv):
    """A deformable convolution in plain operators; equal up to rounding (2e-6 of the largest)."""

    def convolve(self, x: Tensor, offset: Tensor, mask: Tensor | None) -> Tensor:
        """The convolution alone: every kernel place sampled bilinearly, then weighted and summed.

        Formula: arxiv.org/abs/1703.06211, equations 2 to 4, and arxiv.org/abs/1811.11168,
        equation 1, with 0 beyond the borders.
        """
        out_channels, _, kernel_height, kernel_width = self.weight.shape
        places = kernel_height * kernel_width
        batch, channels, height, width = x.shape
        out_height, out_width = offset.shape[-2:]
        groups = self.deformable_groups
        moved = offset.reshape(batch, groups, places, 2, out_height, out_width)
        # (K, H', W') of where each kernel place would be without an offset, in pixels.
        rows = self._places(0).repeat_interleave(kernel_width)[:, None, None].to(x)
        rows = rows + (torch.arange(out_height).to(x) * self.stride[0])[:, None]
        columns = self._places(1).repeat(kernel_height)[:, None, None].to(x)
        columns = columns + torch.arange(out_width).to(x) * self.stride[1]
        # GridSample counts from -1 to 1 between the outer edges of the border pixels.
        grid = torch.stack(
            (
                (2 * (moved[:, :, :, 1] + columns) + 1) / width - 1,
                (2 * (moved[:, :, :, 0] + rows) + 1) / height - 1,
            ),
            dim=-1,
        )
        sampled = F.grid_sample(
            x.reshape(batch * groups, channels // groups, height, width),
            grid.reshape(batch * groups, places * out_height, out_width, 2),
            mode="bilinear",
            padding_mode="zeros",
            align_corners=False,
        ).reshape(batch, groups, channels // groups, places, out_height, out_width)
        if mask is not None:
            sampled = sampled * mask.reshape(batch, groups, 1, places, out_height, out_width)
        return F.conv2d(
            sampled.reshape(batch, channels * places, out_height, out_width),
            self.weight.reshape(out_channels, -1, 1, 1),
            self.bias,
            groups=self.groups,
        )

    def _places(self, axis: int) -> Tensor:
        return torch.arange(self.weight.shape[2 + axis]) * self.dilation[axis] - self.padding[axis]


def _in_plain_operators(module: nn.Module) -> nn.Module:
    assert isinstance(module, TorchvisionDeformConv)
    return PlainDeformConv(
        module.weight,
        module.bias,
        stride=module.stride,
        padding=module.padding,
        dilation=module.dilation,
        groups=module.groups,
        deformable_groups=module.deformable_groups,
        norm=module.norm,
        activation=module.activation,
    )


DEFORM_CONV_ONNX = Rewrite(
    name="deform_conv_onnx",
    replaces=TorchvisionDeformConv,
    methods=("forward", "convolve"),
    needed_for=frozenset({ONNX}),
    reason=(
        "torchvision/ops/deform_conv.py: torchvision::deform_conv2d has no ONNX export, and "
        "OpenVINO cannot read opset 19's DeformConv"
    ),
    make=_in_plain_operators,
)
