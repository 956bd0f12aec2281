"""Deformable convolutions for a detectron2 without compiled operators, which cannot build any.

Where ``detectron2._C`` is missing, layers/deform_conv.py hides both classes behind ones that raise
ImportError, although torchvision's operator does their work on any device. Stand-ins with
detectron2's arguments and parameter names let such a model be built, run and trained.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from detectron2.layers import deform_conv as upstream
from torch import Tensor, nn
from torch.nn.modules.utils import _pair

from d2serve.export.rewrites.deform_conv.torchvision_form import TorchvisionDeformConv

Activation = Callable[[Tensor], Tensor]


class DeformConv(TorchvisionDeformConv):
    """Built as detectron2's DeformConv is."""

    with_bias = False

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] = 0,
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
        deformable_groups: int = 1,
        bias: bool | None = None,
        norm: nn.Module | None = None,
        activation: Activation | None = None,
    ) -> None:
        weight = torch.empty(out_channels, in_channels // groups, *_pair(kernel_size))
        nn.init.kaiming_uniform_(weight, nonlinearity="relu")
        biased = self.with_bias if bias is None else bias
        super().__init__(
            nn.Parameter(weight),
            nn.Parameter(torch.zeros(out_channels)) if biased else None,
            stride=_pair(stride),
            padding=_pair(padding),
            dilation=_pair(dilation),
            groups=groups,
            deformable_groups=deformable_groups,
            norm=norm,
            activation=activation,
        )


class ModulatedDeformConv(DeformConv):
    """Built as detectron2's ModulatedDeformConv is, which has a bias unless told otherwise."""

    with_bias = True


def is_needed() -> bool:
    """Whether the installed detectron2 cannot build deformable convolutions."""
    return not issubclass(upstream.DeformConv, nn.Module)


@contextmanager
def standing_in() -> Iterator[None]:
    """Let detectron2 build deformable convolutions where it has no compiled operators.

    Every loaded module that imported detectron2's placeholders gets the stand-ins meanwhile; where
    detectron2 is compiled, nothing happens.
    """
    if not is_needed():
        yield
        return
    stand_ins = {
        upstream.DeformConv: DeformConv,
        upstream.ModulatedDeformConv: ModulatedDeformConv,
    }
    replaced = [
        (module, name, placeholder)
        for module in list(sys.modules.values())
        for name in ("DeformConv", "ModulatedDeformConv")
        for placeholder in stand_ins
        if getattr(module, "__dict__", {}).get(name) is placeholder
    ]
    for module, name, placeholder in replaced:
        setattr(module, name, stand_ins[placeholder])
    try:
        yield
    finally:
        for module, name, placeholder in replaced:
            setattr(module, name, placeholder)
