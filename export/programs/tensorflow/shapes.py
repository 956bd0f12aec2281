"""Operators that make tensors of a shape, or give a tensor another shape."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
import tensorflow as tf

from d2serve.export.programs.tensorflow.values import (
    IMAGES,
    TO_FIRST,
    TO_LAST,
    Array,
    Constant,
    Node,
    Value,
    axis_in,
    dims,
    in_one_order,
    rank_of,
)


def axes_of(node: Node, index: int = 1) -> tuple[int, ...] | None:
    """The axes that a node is about: an attribute, or an input of newer opsets; None for all."""
    if node.has(index):
        return tuple(int(each) for each in node.known(index, "axes").reshape(-1))
    given = node.get("axes")
    return None if given is None else tuple(given)


def _shape(node: Node) -> Value:
    value = node.value(0)
    if value.rank is None:
        return Value(dims(value.data))
    order = TO_FIRST if value.channels_last else range(value.rank)
    found = [value.data.shape[axis] for axis in order]
    window = slice(node.get("start", 0), node.get("end", None))
    if None not in found:
        return Value(np.asarray(found, np.int64)[window])
    sizes = dims(value.data)
    if value.channels_last:
        sizes = tf.stack([sizes[axis] for axis in order])
    return Value(sizes[window], elements=tuple(found[window]))


def _reshape(node: Node) -> Array:
    x, shape = node.array(0), node.array(1)
    if isinstance(shape, np.ndarray) and not node.get("allowzero", 0):
        # A zero that stands in the program means "as it was"; one that is computed is a size.
        kept = [axis for axis, size in enumerate(shape) if size == 0]
        if kept:
            sizes, known = dims(x), x.shape
            shape = tf.stack(
                [
                    (known[axis] if known[axis] is not None else sizes[axis])
                    if axis in kept
                    else size
                    for axis, size in enumerate(shape)
                ]
            )
    return tf.reshape(x, shape)


def _flatten(node: Node) -> Array:
    x, axis = node.array(0), node.get("axis", 1)
    if axis == 0:
        return tf.reshape(x, [1, -1])
    if axis == 1 and x.shape.rank is not None and None not in x.shape[1:]:
        return tf.reshape(x, [-1, int(np.prod(x.shape[1:]))])
    sizes = dims(x)
    return tf.reshape(x, tf.stack([tf.reduce_prod(sizes[:axis]), tf.reduce_prod(sizes[axis:])]))


def _unsqueeze(node: Node) -> Array:
    x, axes = node.array(0), axes_of(node) or ()
    if rank_of(x) == 0 and len(axes) == 1:
        return tf.stack([x])  # through which TensorFlow follows the numbers of a shape
    rank = (rank_of(x) or 0) + len(axes)
    for axis in sorted(each % rank for each in axes):
        x = tf.expand_dims(x, axis)
    return x


def _squeeze(node: Node) -> Array:
    return tf.squeeze(node.array(0), axes_of(node))


def _transpose(node: Node) -> Value:
    value = node.value(0)
    rank = value.rank or len(node.get("perm", ()))
    order = tuple(node.get("perm", range(rank)[::-1]))
    if value.channels_last:
        order = tuple(TO_LAST.index(axis) for axis in order)
    if order == tuple(range(rank)):
        return Value(value.data)
    if order == TO_FIRST and value.constant is None:
        return Value(value.data, channels_last=True)
    return Value(tf.transpose(node.ordered(value, value.channels_last), order))


def _expand(node: Node) -> Array:
    x, shape = node.array(0), node.array(1)
    wanted = tf.broadcast_dynamic_shape(dims(x), tf.cast(shape, tf.int64))
    return tf.broadcast_to(x, wanted)


def _tile(node: Node) -> Array:
    return tf.tile(node.array(0), node.array(1))


def _filled(node: Node) -> Array:
    given = node.get("value")
    filling: Constant = np.zeros(1, np.float32)
    if given is not None:
        filling = onnx.numpy_helper.to_array(given)
    return tf.fill(node.array(0), filling.reshape(()))


def _range(node: Node) -> Array:
    return tf.range(*(tf.reshape(node.array(index), []) for index in range(3)))


def _concat(node: Node) -> Value:
    values, axis = node.given, node.get("axis")
    if all(value.rank == IMAGES for value in values):
        arrays, last = in_one_order(node, values)
    else:
        arrays, last = [node.ordered(value) for value in values], False
    if last:
        axis = TO_LAST.index(axis % IMAGES)
    return Value(arrays[0] if len(arrays) == 1 else tf.concat(arrays, axis), channels_last=last)


def _split(node: Node) -> Sequence[Value]:
    value = node.value(0)
    axis = axis_in(value, node.get("axis", 0))
    sizes = node.array(1) if node.has(1) else node.outputs
    data = node.ordered(value, value.channels_last)
    parts = tf.split(data, sizes, axis=axis, num=node.outputs)
    return [Value(part, value.channels_last) for part in parts]


def _size(node: Node) -> Array:
    return tf.size(node.value(0).data, out_type=tf.int64)


OPERATORS: dict[str, Callable[[Node], Any]] = {
    "Shape": _shape,
    "Size": _size,
    "Reshape": _reshape,
    "Flatten": _flatten,
    "Unsqueeze": _unsqueeze,
    "Squeeze": _squeeze,
    "Transpose": _transpose,
    "Expand": _expand,
    "Tile": _tile,
    "ConstantOfShape": _filled,
    "Range": _range,
    "Concat": _concat,
    "Split": _split,
}
