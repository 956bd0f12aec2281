"""What an ONNX program computes with, while it is imported: values, nodes and weights.

ONNX has channels before rows and columns, and TensorFlow's convolutions on the CPU want them last.
A value may have them last, so that convolutions in a row need no transposing between them; who asks
it for an array gets the order of ONNX.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

# tf.Variable is one of these; asked for in a function, it has the function traced twice.
from tensorflow.python.ops.resource_variable_ops import ResourceVariable

from d2serve.export.errors import ProgramError

Constant = npt.NDArray[Any]
Array = Any
"""A ``Constant``, known while importing, or a ``tf.Tensor``; both are taken by TensorFlow."""

SMALL = 256
"""Constants of so many elements stand in the graph; larger ones are variables beside it."""

TO_LAST, TO_FIRST = (0, 2, 3, 1), (0, 3, 1, 2)
IMAGES = 4
"""Axes of what has channels, rows and columns, and comes in batches."""


@dataclass(frozen=True)
class Value:
    """What one name of an ONNX graph stands for."""

    data: Array
    channels_last: bool = False
    """Whether ``data`` is (N, H, W, C) where ONNX has (N, C, H, W)."""
    elements: tuple[int | None, ...] = ()
    """Of the shape of a tensor, those of its numbers that every image has in common."""

    @property
    def constant(self) -> Constant | None:
        """Its elements, if they are known."""
        return self.data if isinstance(self.data, np.ndarray) else None

    @property
    def rank(self) -> int | None:
        """How many axes it has."""
        return rank_of(self.data)


def rank_of(array: Array) -> int | None:
    """How many axes an array has; None where TensorFlow does not know."""
    rank: int | None = array.ndim if isinstance(array, np.ndarray) else array.shape.rank
    return rank


class Weights:
    """Large constants of a program, each kept once in each order of axes that is asked for."""

    def __init__(self) -> None:
        self.all: list[ResourceVariable] = []
        self._made: dict[tuple[int, Sequence[int] | None], tuple[Constant, ResourceVariable]] = {}

    def tensor(self, array: Constant, axes: Sequence[int] | None = None) -> Array:
        """A constant for use in the graph, its axes in the order given."""
        if array.size <= SMALL:
            return array if axes is None else array.transpose(axes)
        key = id(array), axes
        if key not in self._made:
            ordered = array if axes is None else array.transpose(axes)
            with tf.init_scope():
                name = f"weight_{len(self.all)}"
                variable = ResourceVariable(ordered, trainable=False, name=name)
            self.all.append(variable)
            self._made[key] = array, variable  # keeps the array, and with it its id
        return tf.convert_to_tensor(self._made[key][1])


class Node:
    """One operator of an ONNX program with what it is given."""

    def __init__(
        self,
        operator: str,
        name: str,
        attributes: Mapping[str, Any],
        values: Sequence[Value | None],
        outputs: int,
        weights: Weights | None,
    ) -> None:
        """Without weights, it is computed at once."""
        self.operator, self.name, self.outputs = operator, name, outputs
        self.values = values
        self._attributes, self._weights = attributes, weights

    def get(self, attribute: str, default: Any = None) -> Any:
        """An attribute; text as ``str``."""
        found = self._attributes.get(attribute, default)
        return found.decode() if isinstance(found, bytes) else found

    def has(self, index: int) -> bool:
        """Whether it is given an input, which may be left out."""
        return index < len(self.values) and self.values[index] is not None

    def value(self, index: int) -> Value:
        """An input as it is."""
        value = self.values[index]
        if value is None:
            raise self.refusal(f"its input {index} is missing")
        return value

    def rank(self, index: int = 0) -> int:
        """How many axes an input has, which must be known before any image is."""
        rank = self.value(index).rank
        if rank is None:
            raise self.refusal("how many axes its input has depends on the image")
        return rank

    @property
    def given(self) -> list[Value]:
        """Its inputs, without those left out."""
        return [value for value in self.values if value is not None]

    def array(self, index: int, last: bool = False) -> Array:
        """An input in ONNX's order of axes, or else with channels last."""
        return self.ordered(self.value(index), last)

    def ordered(self, value: Value, last: bool = False) -> Array:
        """A value in ONNX's order of axes, or else with channels last."""
        if value.constant is not None:
            return self.weight(value.constant, TO_LAST if last else None)
        if value.channels_last == last:
            return value.data
        return tf.transpose(value.data, TO_LAST if last else TO_FIRST)

    def weight(self, array: Constant, axes: Sequence[int] | None = None) -> Array:
        """A constant for use in the graph, its axes in the order given."""
        if self._weights is None:
            return array if axes is None else array.transpose(axes)
        return self._weights.tensor(array, axes)

    def known(self, index: int, what: str) -> Constant:
        """An input that must not depend on the image.

        Raises:
            ProgramError: it does.
        """
        constant = self.value(index).constant
        if constant is None:
            raise self.refusal(f"its {what} depend on the image")
        return constant

    def refusal(self, why: str) -> ProgramError:
        """What to raise where TensorFlow cannot compute this."""
        return ProgramError(
            f"TensorFlow cannot compute the ONNX operator {self.operator} (node {self.name}): "
            f"{why}. Use --format onnx, or --format torchscript."
        )


def in_one_order(node: Node, values: Sequence[Value]) -> tuple[list[Array], bool]:
    """The arrays of values that are broadcast against each other, and whether channels are last.

    They are if they are in one of them and the others can follow.
    """
    last = any(value.channels_last for value in values)
    ranks = [value.rank for value in values]
    if not last or any(rank is None or rank > IMAGES for rank in ranks):
        return [node.ordered(value) for value in values], False
    return [_with_channels_last(node, value) for value in values], True


def _with_channels_last(node: Node, value: Value) -> Array:
    rank = value.rank
    if rank == IMAGES:
        return node.ordered(value, last=True)
    if rank == 0:
        return value.data
    if value.constant is not None:
        wide = value.constant.reshape((1,) * (IMAGES - value.constant.ndim) + value.constant.shape)
        return node.weight(wide, TO_LAST)
    ones = np.ones(IMAGES - (rank or 0), np.int64)
    wide = tf.reshape(value.data, tf.concat([ones, tf.shape(value.data, tf.int64)], 0))
    return tf.transpose(wide, TO_LAST)


def axis_in(value: Value, axis: int) -> int:
    """Where an axis of ONNX's order lies in a value's data; negative ones count from the end."""
    rank = value.rank
    if rank is None:
        return axis
    axis = axis % rank if rank else axis
    return TO_LAST.index(axis) if value.channels_last else axis


def dims(array: Array) -> Array:
    """The shape of an array: int64, as ONNX has shapes."""
    return tf.shape(array, out_type=tf.int64)
