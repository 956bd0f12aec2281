"""Operators that cut a part out of a tensor, or put something around it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from d2serve.export.programs.tensorflow.values import (
    TO_LAST,
    Array,
    Node,
    Value,
    axis_in,
    dims,
)

_FAR = 2**31 - 1
"""Beyond any tensor's end, as ONNX's own numbers for that are, but not beyond 32 bits."""


def _slice(node: Node) -> Value:
    value = node.value(0)
    starts, ends = node.array(1), node.array(2)
    steps = node.known(4, "steps") if node.has(4) else None
    axes = node.known(3, "axes") if node.has(3) else range(starts.shape[0])
    rank = node.rank()
    found = [slice(None)] * rank
    for index, axis in enumerate(axes):
        step = 1 if steps is None else int(steps[index])
        found[axis_in(value, int(axis))] = slice(
            _bound(starts, index), _bound(ends, index), None if step == 1 else step
        )
    return Value(node.ordered(value, value.channels_last)[tuple(found)], value.channels_last)


def _bound(bounds: Array, index: int) -> Any:
    if not isinstance(bounds, np.ndarray):
        return bounds[index]
    return max(-_FAR, min(int(bounds[index]), _FAR))


def _pad(node: Node) -> Value:
    value = node.value(0)
    rank = node.rank()
    pads = node.array(1)
    if isinstance(pads, np.ndarray):
        around = pads.reshape(2, rank).T
        if value.channels_last:
            around = around[list(TO_LAST)]
    else:
        around = tf.transpose(tf.reshape(pads, [2, rank]))
        if value.channels_last:
            around = tf.gather(around, TO_LAST)
    data = node.ordered(value, value.channels_last)
    return Value(_padded(node, data, around), value.channels_last)


def _padded(node: Node, data: Array, around: Array) -> Array:
    mode = node.get("mode", "constant")
    wider = np.maximum(around, 0) if isinstance(around, np.ndarray) else tf.maximum(around, 0)
    if mode == "constant":
        filling = node.array(2) if node.has(2) else np.zeros((), data.dtype.as_numpy_dtype)
        padded = tf.pad(data, wider, constant_values=tf.reshape(filling, []))
    elif mode == "reflect":
        padded = tf.pad(data, wider, "REFLECT")
    elif mode == "edge":
        padded = _repeating_edges(data, wider)
    else:
        raise node.refusal(f"its mode {mode} is not one of constant, reflect and edge")
    if isinstance(around, np.ndarray) and (around >= 0).all():
        return padded
    # What is negative is cut off.
    narrower = tf.maximum(-tf.convert_to_tensor(around), 0)
    return tf.slice(padded, narrower[:, 0], dims(padded) - tf.reduce_sum(narrower, 1))


def _repeating_edges(data: Array, around: Array) -> Array:
    sizes = dims(data)
    for axis in range(data.shape.rank):
        places = tf.range(-around[axis][0], sizes[axis] + around[axis][1])
        data = tf.gather(data, tf.clip_by_value(places, 0, sizes[axis] - 1), axis=axis)
    return data


OPERATORS: dict[str, Callable[[Node], Any]] = {"Slice": _slice, "Pad": _pad}
