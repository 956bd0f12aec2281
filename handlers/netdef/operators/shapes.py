"""Operators that arrange elements in another shape or order, and those that fill weights."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from d2serve.handlers.netdef.arguments import ArgumentError, Arguments
from d2serve.handlers.netdef.operators.making import Maker, Step


def _flatten(args: Arguments) -> Step:
    axis = args.integer("axis", 1)
    return lambda x: x.reshape(x.shape[:axis].numel(), x.shape[axis:].numel())


def _reshape(args: Arguments) -> Step:
    own = args.integers("shape")

    def step(x: Tensor, shape: Tensor | None = None) -> tuple[Tensor, Tensor]:
        wanted = list(own if shape is None else shape.tolist())
        sides = [x.shape[at] if side == 0 else side for at, side in enumerate(wanted)]
        return x.reshape(sides), torch.tensor(x.shape)

    return step


def _shape(args: Arguments) -> Step:
    axes = args.integers("axes")
    return lambda x: torch.tensor([x.shape[at] for at in axes or range(x.dim())])


def _concat(args: Arguments) -> Step:
    args.expect("order", "NCHW", "NCHW")
    axis, adds = args.integer("axis", 1), args.boolean("add_axis", False)

    def step(*each: Tensor) -> tuple[Tensor, Tensor]:
        made = torch.stack(each, axis) if adds else torch.cat(each, axis)
        return made, torch.tensor([1 if adds else x.shape[axis] for x in each], dtype=torch.int32)

    return step


def _transpose(args: Arguments) -> Step:
    axes = args.integers("axes")
    return lambda x: x.permute(axes or tuple(reversed(range(x.dim()))))


def _slice(args: Arguments) -> Step:
    own_starts, own_ends = args.integers("starts"), args.integers("ends")

    def step(x: Tensor, starts: Tensor | None = None, ends: Tensor | None = None) -> Tensor:
        first = own_starts if starts is None else starts.tolist()
        last = own_ends if ends is None else ends.tolist()
        # A negative place counts from behind, -1 being the end itself.
        places = [
            slice(*(side + 1 + place if place < 0 else place for place in each))
            for side, *each in zip(x.shape, first, last)
        ]
        return x[tuple(places)]

    return step


def _expand_dims(args: Arguments) -> Step:
    axes = sorted(args.integers("dims"))

    def step(x: Tensor) -> Tensor:
        for axis in axes:
            x = x.unsqueeze(axis)
        return x

    return step


def _squeeze(args: Arguments) -> Step:
    axes = sorted(args.integers("dims"), reverse=True)

    def step(x: Tensor) -> Tensor:
        for axis in axes:
            x = x.squeeze(axis)
        return x

    return step


def _reduce_mean(args: Arguments) -> Step:
    axes, keeps = args.integers("axes"), args.boolean("keepdims", True)
    return lambda x: x.mean(dim=axes or tuple(range(x.dim())), keepdim=keeps)


def _gather(args: Arguments) -> Step:
    axis = args.integer("axis", 0)

    def step(x: Tensor, places: Tensor) -> Tensor:
        found = x.index_select(axis, places.ravel().to(torch.int64))
        return found.reshape(x.shape[:axis] + places.shape + x.shape[axis + 1 :])

    return step


def _batch_permutation(_: Arguments) -> Step:
    return lambda x, places: x.index_select(0, places.to(torch.int64))


def _given_tensor(kind: torch.dtype) -> Maker:
    def make(args: Arguments) -> Step:
        floats = kind.is_floating_point
        values = args.floats("values") if floats else args.integers("values")
        sides = args.integers("shape")
        count = math.prod(sides)
        if len(values) != count or any(side < 0 for side in sides):
            raise ArgumentError(f"{len(values)} values should fill the shape {list(sides)}")
        made = torch.as_tensor(values, dtype=kind).reshape(sides)
        return lambda: made

    return make


SHAPES: Mapping[str, Maker] = {
    "BatchPermutation": _batch_permutation,
    "Concat": _concat,
    "ExpandDims": _expand_dims,
    "Flatten": _flatten,
    "Gather": _gather,
    "ReduceMean": _reduce_mean,
    "Reshape": _reshape,
    "Shape": _shape,
    "Slice": _slice,
    "Squeeze": _squeeze,
    "Transpose": _transpose,
}

FILLS: Mapping[str, Maker] = {
    "GivenTensorBoolFill": _given_tensor(torch.bool),
    "GivenTensorFill": _given_tensor(torch.float32),
    "GivenTensorInt64Fill": _given_tensor(torch.int64),
    "GivenTensorIntFill": _given_tensor(torch.int32),
}
"""Those that take no input; with them ``model_init.pb`` holds weights."""
