"""torch's operators of the layers that detectron2's networks consist of, and Caffe2's for them.

Caffe2's arithmetic broadcasts as numpy does. Its pools round down only, and its convolutions want a
bias where torch has none in a transposed one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import torch

from d2serve.export.programs.caffe2.enlarging import bilinear, nearest
from d2serve.export.programs.caffe2.graphs import Call, Value, Weight
from d2serve.export.programs.caffe2.nets import Net
from d2serve.export.programs.caffe2.norms import batch_norm, group_norm
from d2serve.export.programs.caffe2.strictness import require
from d2serve.handlers.netdef.messages import ArgumentValue

Convert = Callable[[Net, Call], None]
"""Adds to a network what a call computes."""


def convolution(net: Net, call: Call) -> None:
    """Conv, or ConvTranspose."""
    given = call.arguments
    weight, bias = given["weight"], given["bias"]
    require(isinstance(weight, Weight), "weights that are computed")
    arguments: dict[str, ArgumentValue] = {
        "kernels": list(weight.tensor.shape[2:]),
        "strides": _pair(given["stride"]),
        "pads": _pair(given["padding"]) * 2,
    }
    if given["transposed"]:
        require(_pair(given["output_padding"]) == [0, 0], "output_padding")
        require(_pair(given["dilation"]) == [1, 1], "a dilation, transposed")
        require(given["groups"] == 1, "groups, transposed")
        bias = bias or Weight("", torch.zeros(weight.tensor.shape[1]))
        net.add(
            "ConvTranspose", call.scope, [given["input"], weight, bias], call.outputs, **arguments
        )
        return
    inputs = [given["input"], weight, *([bias] if bias is not None else [])]
    arguments.update(dilations=_pair(given["dilation"]), group=int(given["groups"]))
    net.add("Conv", call.scope, inputs, call.outputs, **arguments)


def linear(net: Net, call: Call) -> None:
    """FC."""
    given = call.arguments
    weight, bias = given["weight"], given["bias"]
    require(isinstance(weight, Weight), "weights that are computed")
    require(given["input"].rank == 2, "inputs that are not rows of features")
    bias = bias or Weight("", torch.zeros(weight.tensor.shape[0]))
    net.add("FC", call.scope, [given["input"], weight, bias], call.outputs)


def max_pool(net: Net, call: Call) -> None:
    """MaxPool."""
    require(_pair(call.arguments["dilation"]) == [1, 1], "a dilation")
    _pool(net, call, "MaxPool")


def average_pool(net: Net, call: Call) -> None:
    """AveragePool, which counts what lies inside the image only."""
    given = call.arguments
    padded = _pair(given["padding"]) != [0, 0]
    require(not (padded and given["count_include_pad"]), "count_include_pad")
    require(given["divisor_override"] is None, "divisor_override")
    _pool(net, call, "AveragePool")


def _pool(net: Net, call: Call, kind: str) -> None:
    given = call.arguments
    require(not given["ceil_mode"], "ceil_mode")
    kernels = _pair(given["kernel_size"])
    net.add(
        kind,
        call.scope,
        [given["self"]],
        call.outputs,
        kernels=kernels,
        strides=_pair(given["stride"]) if given["stride"] else kernels,
        pads=_pair(given["padding"]) * 2,
    )


def _pair(sizes: list[int]) -> list[int]:
    return [int(each) for each in (sizes * 2 if len(sizes) == 1 else sizes)]


def mean(net: Net, call: Call) -> None:
    """ReduceMean."""
    given = call.arguments
    axes, rank = given["dim"], given["self"].rank
    require(bool(axes) and rank is not None, "no dim")
    net.add(
        "ReduceMean",
        call.scope,
        [given["self"]],
        call.outputs,
        axes=sorted(axis % rank for axis in axes),
        keepdims=int(given["keepdim"]),
    )


def adaptive_average(net: Net, call: Call) -> None:
    """ReduceMean over the whole image."""
    given = call.arguments
    require(given["output_size"] == [1, 1], "an output_size other than 1")
    net.add("ReduceMean", call.scope, [given["self"]], call.outputs, axes=[2, 3], keepdims=1)


def flatten(net: Net, call: Call) -> None:
    """Flatten to (N, features)."""
    given = call.arguments
    last = (given["self"].rank or 0) - 1
    require(
        given["start_dim"] == 1 and given["end_dim"] in (-1, last), "other dimensions than 1 to -1"
    )
    net.add("Flatten", call.scope, [given["self"]], call.outputs, axis=1)


def concatenate(net: Net, call: Call) -> None:
    """Concat. It has a second output, the sizes of its inputs."""
    given = call.arguments
    tensors = given["tensors"]
    axis = given["dim"] % tensors[0].rank
    sizes = Value(f"{call.outputs[0].name}.sizes")
    net.add("Concat", call.scope, tensors, [*call.outputs, sizes], axis=axis)


def softmax(net: Net, call: Call) -> None:
    """Softmax over the last dimension: Caffe2's takes all from ``axis`` on together."""
    given = call.arguments
    rank = given["self"].rank
    require(rank is not None and given["dim"] % rank == rank - 1, "a dim other than the last")
    net.add("Softmax", call.scope, [given["self"]], call.outputs, axis=rank - 1)


def elementwise(kind: str) -> Convert:
    """An operator on one tensor, which Caffe2 has as it is."""

    def convert(net: Net, call: Call) -> None:
        net.add(kind, call.scope, [call.arguments["self"]], call.outputs)

    return convert


def arithmetic(kind: str) -> Convert:
    """An operator on two tensors, or on a tensor and a number."""

    def convert(net: Net, call: Call) -> None:
        given = call.arguments
        require(given.get("alpha", 1) == 1, "alpha")
        require(given.get("rounding_mode") is None, "rounding_mode")
        inputs = [_tensor(given["self"]), _tensor(given["other"])]
        net.add(kind, call.scope, inputs, call.outputs)

    return convert


def _tensor(thing: Any) -> Value | Weight:
    if isinstance(thing, (Value, Weight)):
        return thing
    return Weight("", torch.tensor([float(thing)]))


def same(net: Net, call: Call) -> None:
    """Nothing at all: what a trace records and leaves as it is."""
    first = next(iter(call.arguments.values()))
    require(not call.arguments.get("train", False), "training")
    net.let_be(call.outputs[0], first)


LAYERS: Mapping[str, Convert] = MappingProxyType(
    {
        "aten::_convolution": convolution,
        "aten::linear": linear,
        "aten::batch_norm": batch_norm,
        "aten::group_norm": group_norm,
        "aten::max_pool2d": max_pool,
        "aten::avg_pool2d": average_pool,
        "aten::adaptive_avg_pool2d": adaptive_average,
        "aten::mean": mean,
        "aten::flatten": flatten,
        "aten::cat": concatenate,
        "aten::softmax": softmax,
        "aten::relu": elementwise("Relu"),
        "aten::sigmoid": elementwise("Sigmoid"),
        "aten::add": arithmetic("Add"),
        "aten::sub": arithmetic("Sub"),
        "aten::mul": arithmetic("Mul"),
        "aten::div": arithmetic("Div"),
        "aten::upsample_nearest2d": nearest,
        "aten::upsample_bilinear2d": bilinear,
        "aten::dropout": same,
        "aten::detach": same,
        "aten::contiguous": same,
        "aten::lift_fresh": same,
    }
)
"""By torch's name of an operator."""
