"""Deformable convolutions for a detectron2 without compiled operators, and for training on a CPU.

detectron2's own (layers/deform_conv.py) run torchvision's operator when on a CPU. But a detectron2
that was not compiled hides them behind classes that only raise ImportError, and the unmodulated one
has no backward pass on a CPU, although torchvision has. Importing this module brings back the
hidden classes; ``trainable_on_the_cpu`` is for the time of training.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

import torch
from detectron2 import layers
from detectron2.modeling.backbone import resnet
from torchvision.ops import deform_conv2d

_MODULE = "detectron2.layers.deform_conv"
_COMPILED = "detectron2._C"


def _uncovered() -> ModuleType:
    """detectron2's module with its real classes, whether or not detectron2 is compiled."""
    known = sys.modules[_MODULE]
    if issubclass(known.DeformConv, torch.nn.Module):
        return known
    spec = importlib.util.find_spec(_MODULE)
    if spec is None or spec.loader is None:
        raise ImportError(f"{_MODULE} cannot be read again; is detectron2 a package of .py files?")
    module = importlib.util.module_from_spec(spec)
    # Nothing in it is called on a CPU, except by the modulated one.
    sys.modules[_COMPILED] = ModuleType(_COMPILED)
    try:
        spec.loader.exec_module(module)
    finally:
        del sys.modules[_COMPILED]
    for name in ("DeformConv", "ModulatedDeformConv"):
        for place in (known, layers, resnet):
            setattr(place, name, getattr(module, name))
    return module


_upstream = _uncovered()


@contextmanager
def trainable_on_the_cpu() -> Iterator[None]:
    """Inside, detectron2's unmodulated deformable convolution has a backward pass on the CPU."""
    original = vars(_upstream)["deform_conv"]
    vars(_upstream)["deform_conv"] = _deform_conv
    try:
        yield
    finally:
        vars(_upstream)["deform_conv"] = original


def _deform_conv(
    x: torch.Tensor,
    offset: torch.Tensor,
    weight: torch.Tensor,
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
    groups: int,
    deformable_groups: int,
) -> torch.Tensor:
    if (groups, deformable_groups) != (1, 1):
        raise ValueError(f"detectron2 has one group on a CPU, not {groups}, {deformable_groups}")
    # The operator knows no bf16.
    with torch.autocast("cpu", enabled=False):
        result: torch.Tensor = deform_conv2d(
            x.float(),
            offset.float(),
            weight.float(),
            stride=stride,
            padding=padding,
            dilation=dilation,
        )
    return result
