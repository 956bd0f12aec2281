"""Arithmetic element by element, and what changes no value."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import reduce

import torch
from torch import Tensor

from d2serve.handlers.netdef.arguments import ArgumentError, Arguments
from d2serve.handlers.netdef.operators.making import Maker, Step

_TYPES: Mapping[int, torch.dtype] = {
    1: torch.float32,
    2: torch.int32,
    3: torch.uint8,
    5: torch.bool,
    6: torch.uint8,
    7: torch.int8,
    9: torch.int16,
    10: torch.int64,
    12: torch.float16,
    13: torch.float64,
}
"""By Caffe2's number of them (TensorProto.DataType)."""


def _binary(operation: Callable[[Tensor, Tensor], Tensor]) -> Maker:
    def make(args: Arguments) -> Step:
        # Without ``broadcast``, Caffe2 does as numpy does. With it, the second operand's axes are
        # the first's last ones, or those from ``axis`` on.
        axis = args.integer("axis", -1) if args.boolean("broadcast", False) else -1
        if axis == -1:
            return operation
        return lambda a, b: operation(a, b.reshape(b.shape + (1,) * (a.dim() - axis - b.dim())))

    return make


def _same(_: Arguments) -> Step:
    return lambda x: x


def _sum(_: Arguments) -> Step:
    return lambda *each: reduce(torch.add, each)


def _cast(args: Arguments) -> Step:
    number = args.integer("to")
    if number not in _TYPES:
        raise ArgumentError(f"to is {number}, expected one of {[*_TYPES]}")
    kind = _TYPES[number]
    return lambda x: x.to(kind)


def _softmax(args: Arguments) -> Step:
    axis = args.integer("axis", 1)

    def step(x: Tensor) -> Tensor:
        # Everything from the axis on is one distribution.
        return x.flatten(axis).softmax(-1).reshape(x.shape)

    return step


def _unary(operation: Callable[[Tensor], Tensor]) -> Maker:
    return lambda _: operation


ARITHMETIC: Mapping[str, Maker] = {
    "Add": _binary(torch.add),
    "AliasWithName": _same,
    "Cast": _cast,
    "Copy": _same,
    "CopyCPUToGPU": _same,
    "CopyGPUToCPU": _same,
    "Div": _binary(torch.div),
    "Exp": _unary(torch.exp),
    "Mul": _binary(torch.mul),
    "Relu": _unary(torch.relu),
    "Sigmoid": _unary(torch.sigmoid),
    "Softmax": _softmax,
    "StopGradient": _same,
    "Sub": _binary(torch.sub),
    "Sum": _sum,
}
