"""The layers with weights, and those that work on a window: convolutions, pooling, normalisation.

What each does and its defaults are documented in caffe2/operators, by its name. Images are NCHW.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F  # noqa: N812 (as PyTorch's own documentation has it)
from torch import Tensor

from d2serve.handlers.netdef.arguments import ArgumentError, Arguments
from d2serve.handlers.netdef.operators.making import Maker, Step

Pair = tuple[int, int]


class _Window:
    """Kernel, strides, pads and dilations, which Caffe2 knows in three spellings each."""

    def __init__(self, args: Arguments) -> None:
        args.expect("order", "NCHW", "NCHW")
        args.expect("legacy_pad", 0, 0)
        self.kernel = _pair(args, "kernel", 0)
        self.stride = _pair(args, "stride", 1)
        self.dilation = _pair(args, "dilation", 1)
        self.top, self.left, self.bottom, self.right = _pads(args)

    def padding(self) -> Pair:
        """(vertical, horizontal), where both sides of each have the same."""
        if (self.top, self.left) != (self.bottom, self.right):
            raise ArgumentError(f"pads differ from side to side ({self.pads})")
        return self.top, self.left

    @property
    def pads(self) -> tuple[int, int, int, int]:
        """Left, right, top, bottom, as PyTorch takes them."""
        return self.left, self.right, self.top, self.bottom


def _pair(args: Arguments, name: str, default: int) -> Pair:
    if name in args:
        return (args.integer(name),) * 2
    if f"{name}_h" in args and f"{name}_w" in args:
        return args.integer(f"{name}_h"), args.integer(f"{name}_w")
    found = args.integers(f"{name}s") or (default, default)
    if len(found) != 2:
        raise ArgumentError(f"{name}s are {found}, expected two")
    return found[0], found[1]


def _pads(args: Arguments) -> tuple[int, int, int, int]:
    """Top, left, bottom, right."""
    if "pad" in args:
        return (args.integer("pad"),) * 4
    each = ("pad_t", "pad_l", "pad_b", "pad_r")
    if all(name in args for name in each):
        top, left, bottom, right = map(args.integer, each)
        return top, left, bottom, right
    found = args.integers("pads") or (0,) * 4
    if len(found) != 4:
        raise ArgumentError(f"pads are {found}, expected four")
    return found[0], found[1], found[2], found[3]


def _conv(args: Arguments) -> Step:
    window, group = _Window(args), args.integer("group", 1)
    padding = window.padding()

    def step(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        return F.conv2d(x, weight, bias, window.stride, padding, window.dilation, group)

    return step


def _conv_transpose(args: Arguments) -> Step:
    window, group = _Window(args), args.integer("group", 1)
    padding, more = window.padding(), _pair(args, "adj", 0)

    def step(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        return F.conv_transpose2d(x, weight, bias, window.stride, padding, more, group)

    return step


def _max_pool(args: Arguments) -> Step:
    window = _Window(args)
    if args.boolean("global_pooling", False):
        return lambda x: x.amax(dim=(2, 3), keepdim=True)
    padding = window.padding()
    return lambda x: F.max_pool2d(x, window.kernel, window.stride, padding, window.dilation)


def _average_pool(args: Arguments) -> Step:
    window = _Window(args)
    if args.boolean("global_pooling", False):
        return lambda x: x.mean(dim=(2, 3), keepdim=True)
    padding, count_pad = window.padding(), args.boolean("count_include_pad", False)
    return lambda x: F.avg_pool2d(
        x, window.kernel, window.stride, padding, count_include_pad=count_pad
    )


def _pad_image(args: Arguments) -> Step:
    pads, mode = _Window(args).pads, args.text("mode", "constant")
    if mode == "constant":
        value = args.number("value", 0.0)
        return lambda x: F.pad(x, pads, value=value)
    kinds = {"edge": "replicate", "reflect": "reflect"}
    if mode not in kinds:
        raise ArgumentError(f"mode is {mode!r}, expected constant, edge or reflect")
    return lambda x: F.pad(x, pads, kinds[mode])


def _resize_nearest(args: Arguments) -> Step:
    args.expect("order", "NCHW", "NCHW")
    own = args.number("height_scale", 1.0), args.number("width_scale", 1.0)

    def step(x: Tensor, scales: Tensor | None = None) -> Tensor:
        given = own if scales is None else tuple(scales.tolist())
        if given == (2.0, 2.0):
            return F.interpolate(x, scale_factor=2.0, mode="nearest")
        for axis, scale in zip((2, 3), given):
            if scale == int(scale):
                x = x.repeat_interleave(int(scale), axis)
                continue
            # As Caffe2 finds the place, in float32.
            pixels = torch.arange(int(x.shape[axis] * scale), dtype=torch.float32, device=x.device)
            places = (pixels / scale).to(torch.int64).clamp(max=x.shape[axis] - 1)
            x = x.index_select(axis, places)
        return x

    return step


def _fc(args: Arguments) -> Step:
    axis, axis_w = args.integer("axis", 1), args.integer("axis_w", 1)

    def step(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        flat = x.flatten(axis) if x.dim() > axis else x
        return F.linear(flat, weight.flatten(axis_w), bias)

    return step


def _group_norm(args: Arguments) -> Step:
    args.expect("order", "NCHW", "NCHW")
    groups, epsilon = args.integer("group", 32), args.number("epsilon", 1e-5)
    return lambda x, weight, bias: F.group_norm(x, groups, weight.ravel(), bias.ravel(), epsilon)


def _spatial_bn(args: Arguments) -> Step:
    args.expect("order", "NCHW", "NCHW")
    args.expect("is_test", 1, 0)
    epsilon = args.number("epsilon", 1e-5)

    def step(x: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
        return F.batch_norm(x, mean, variance, scale, bias, eps=epsilon)

    return step


def _affine_channel(args: Arguments) -> Step:
    args.expect("order", "NCHW", "NCHW")

    def step(x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
        sides = (1, -1) + (1,) * (x.dim() - 2)
        return torch.addcmul(bias.view(sides), x, scale.view(sides))

    return step


LAYERS: Mapping[str, Maker] = {
    "AffineChannel": _affine_channel,
    "AveragePool": _average_pool,
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "FC": _fc,
    "GroupNorm": _group_norm,
    "MaxPool": _max_pool,
    "PadImage": _pad_image,
    "ResizeNearest": _resize_nearest,
    "SpatialBN": _spatial_bn,
}
