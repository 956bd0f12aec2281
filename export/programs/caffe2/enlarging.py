"""Enlarging: nearest neighbours Caffe2 has, bilinear interpolation it has as a convolution only.

A transposed convolution with a triangular kernel interpolates between pixels, and lets the borders
fade to zero, where detectron2 repeats the outermost pixels. So these are repeated before, once on
each side, and what is made of them beyond the image is cut off by the padding of the transposed
convolution. With upstream's ``BilinearInterpolation`` (detectron2/export/shared.py) the borders
fade.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from d2serve.export.programs.caffe2.graphs import Call, Value, Weight
from d2serve.export.programs.caffe2.nets import Net
from d2serve.export.programs.caffe2.strictness import require


def nearest(net: Net, call: Call) -> None:
    """ResizeNearest."""
    height, width = _scales(call)
    net.add(
        "ResizeNearest",
        call.scope,
        [_given(call)],
        call.outputs,
        order="NCHW",
        height_scale=height,
        width_scale=width,
    )


def bilinear(net: Net, call: Call) -> None:
    """PadImage and ConvTranspose."""
    require(not call.arguments["align_corners"], "align_corners")
    height, width = _scales(call)
    scale = int(height)
    require(height == width == scale, "scales that are not whole or not the same")
    taken = _given(call)
    channels = taken.channels or 0
    require(channels > 0, "an unknown number of channels")
    padded = Value(f"{call.outputs[0].name}.padded", 4)
    net.add("PadImage", call.scope, [taken], [padded], mode="edge", pads=[1] * 4)
    kernel = triangle(scale)
    weight = np.zeros((channels, channels, *kernel.shape), np.float32)
    weight[range(channels), range(channels)] = kernel
    bias = Weight("", torch.zeros(channels))
    net.add(
        "ConvTranspose",
        call.scope,
        [padded, Weight("", torch.from_numpy(weight)), bias],
        call.outputs,
        kernels=list(kernel.shape),
        strides=[scale] * 2,
        pads=[scale // 2 + scale] * 4,
    )


def triangle(scale: int) -> Any:
    """The kernel that interpolates bilinearly when it enlarges by a whole number, (K, K) float32.

    An enlarged pixel's centre lies at (i + 0.5) / scale - 0.5 of the image, as with
    ``align_corners=False``; K is 2 * scale, or one less where scale is odd.
    """
    size = 2 * scale - scale % 2
    distance = np.abs(np.arange(size) - (size - 1) / 2) / scale
    side = 1 - distance
    return np.outer(side, side).astype(np.float32)


def _given(call: Call) -> Value:
    value: Value = call.arguments["input" if "input" in call.arguments else "self"]
    return value


def _scales(call: Call) -> tuple[float, float]:
    given = call.arguments
    factors: list[float] = given.get("scale_factors") or []
    require(len(factors) == 2, "a fixed size (give scale_factor)")
    return float(factors[0]), float(factors[1])
