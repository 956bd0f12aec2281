"""Deformable convolution on torchvision's operator: no export can read detectron2's functions.

``DeformConv`` and ``ModulatedDeformConv`` (layers/deform_conv.py) call ``Function.apply``, which
calls a compiled operator that neither TorchScript nor ONNX knows; on a CPU v1 ends in torchvision's
operator and modulated convolution does not run at all. torchvision's operator takes the same
weights, offsets and masks in the same order, groups included.
"""

# No `from __future__ import annotations` here: TorchScript cannot read postponed annotations.

from collections.abc import Callable
from typing import Any, Optional

import torch
import torchvision  # noqa: F401  # registers its operator
from detectron2.layers import deform_conv as upstream
from torch import Tensor, nn

from d2serve.export.rewrites.rewrite import SCRIPTING, TRACING, Rewrite


class TorchvisionDeformConv(nn.Module):
    """Either deformable convolution, with its norm and activation, on torchvision's operator.

    One class for both, so that TorchScript can compile either branch of DeformBottleneckBlock
    (modeling/backbone/resnet.py), which chooses by an attribute that is no constant.
    """

    def __init__(
        self,
        weight: nn.Parameter,
        bias: Optional[nn.Parameter],
        *,
        stride: tuple[int, int],
        padding: tuple[int, int],
        dilation: tuple[int, int],
        groups: int,
        deformable_groups: int,
        norm: Optional[nn.Module],
        activation: Optional[Callable[[Tensor], Tensor]],
    ) -> None:
        super().__init__()
        self.weight = weight
        self.bias = bias
        self.stride = stride
        self.padding = padding
        self.dilation = dilation
        self.groups = groups
        self.deformable_groups = deformable_groups
        self.norm = norm
        if activation is not None and not isinstance(activation, nn.Module):
            activation = _Function(activation)
        self.activation = activation

    def forward(self, x: Tensor, offset: Tensor, mask: Optional[Tensor] = None) -> Tensor:
        """Convolve (N, C, H, W) at the places that offset (N, 2*G*K, H', W') moves to.

        Args:
            x: the features.
            offset: y and x in pixels for each of G deformable groups and K kernel places.
            mask: (N, G*K, H', W') factors, of modulated convolution.
        """
        x = self.convolve(x, offset, mask)
        if self.norm is not None:
            x = self.norm(x)
        if self.activation is not None:
            x = self.activation(x)
        return x

    def convolve(self, x: Tensor, offset: Tensor, mask: Optional[Tensor]) -> Tensor:
        """The convolution alone."""
        # Not by torchvision.ops.deform_conv2d, in whose trace the device is a constant.
        bias = self.bias if self.bias is not None else torch.zeros_like(self.weight[:, 0, 0, 0])
        convolved: Tensor = torch.ops.torchvision.deform_conv2d(
            x,
            self.weight,
            offset,
            mask if mask is not None else x[:, :1, 0, 0],
            bias,
            self.stride[0],
            self.stride[1],
            self.padding[0],
            self.padding[1],
            self.dilation[0],
            self.dilation[1],
            self.groups,
            self.deformable_groups,
            mask is not None,
        )
        return convolved


class _Function(nn.Module):
    """A plain function as a module, as TorchScript cannot ask whether a function is None."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def on_torchvision(module: Any) -> TorchvisionDeformConv:
    """The equivalent of detectron2's DeformConv or ModulatedDeformConv, on its weights."""
    return TorchvisionDeformConv(
        module.weight,
        module.bias,
        stride=_pair(module.stride),
        padding=_pair(module.padding),
        dilation=_pair(module.dilation),
        groups=module.groups,
        deformable_groups=module.deformable_groups,
        norm=module.norm,
        activation=module.activation,
    )


def _pair(value: object) -> tuple[int, int]:
    # DeformConv keeps pairs and ModulatedDeformConv what it was given.
    return value if isinstance(value, tuple) else (value, value)


DEFORM_CONV = Rewrite(
    name="deform_conv",
    replaces=upstream.DeformConv,
    methods=("forward",),
    needed_for=frozenset({TRACING, SCRIPTING}),
    reason=(
        "layers/deform_conv.py: DeformConv.forward calls _DeformConv.apply, an autograd function "
        "that no export can read"
    ),
    make=on_torchvision,
)

MODULATED_DEFORM_CONV = Rewrite(
    name="modulated_deform_conv",
    replaces=upstream.ModulatedDeformConv,
    methods=("forward",),
    needed_for=frozenset({TRACING, SCRIPTING}),
    reason=(
        "layers/deform_conv.py: ModulatedDeformConv.forward calls _ModulatedDeformConv.apply, an "
        "autograd function that no export can read and that refuses a CPU"
    ),
    make=on_torchvision,
)
