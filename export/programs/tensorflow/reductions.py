"""Operators that reduce axes, sum along one, or scale what lies along one."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import tensorflow as tf

from d2serve.export.programs.tensorflow.shapes import axes_of
from d2serve.export.programs.tensorflow.values import IMAGES, Array, Node, Value, axis_in

_CHANNELS, _ROWS_AND_COLUMNS = {1}, {2, 3}


def _reduced(function: Callable[..., Array], node: Node) -> Value:
    value, axes = node.value(0), axes_of(node)
    keep = bool(node.get("keepdims", 1))
    if not axes and node.get("noop_with_empty_axes", 0):
        return value
    if not axes:
        return Value(function(node.array(0), None, keepdims=keep))
    last = value.channels_last and _leaves_the_order(axes, keep)
    data = node.ordered(value, last)
    within = [axis_in(Value(data, last), axis) for axis in axes]
    return Value(function(data, within, keepdims=keep), channels_last=last and keep)


def _leaves_the_order(axes: tuple[int, ...], keep: bool) -> bool:
    """Whether what is left has its axes in ONNX's order when channels are last."""
    gone = {axis % IMAGES for axis in axes}
    return keep or gone >= _CHANNELS or gone >= _ROWS_AND_COLUMNS


def _log_sum(x: Array, axes: Any, keepdims: bool) -> Array:
    return tf.math.log(tf.reduce_sum(x, axes, keepdims=keepdims))


def _sum_of_squares(x: Array, axes: Any, keepdims: bool) -> Array:
    return tf.reduce_sum(tf.square(x), axes, keepdims=keepdims)


def _l1(x: Array, axes: Any, keepdims: bool) -> Array:
    return tf.reduce_sum(tf.abs(x), axes, keepdims=keepdims)


def _l2(x: Array, axes: Any, keepdims: bool) -> Array:
    return tf.sqrt(_sum_of_squares(x, axes, keepdims))


def _running_sum(node: Node) -> Array:
    axis = tf.reshape(node.array(1), [])
    return tf.cumsum(
        node.array(0),
        axis,
        exclusive=bool(node.get("exclusive", 0)),
        reverse=bool(node.get("reverse", 0)),
    )


def _along_one_axis(function: Callable[..., Array], node: Node) -> Value:
    value = node.value(0)
    data = node.ordered(value, value.channels_last)
    axis = axis_in(value, node.get("axis", -1))
    return Value(function(data, axis), value.channels_last)


_FUNCTIONS: dict[str, Callable[..., Array]] = {
    "ReduceSum": tf.reduce_sum,
    "ReduceMean": tf.reduce_mean,
    "ReduceMax": tf.reduce_max,
    "ReduceMin": tf.reduce_min,
    "ReduceProd": tf.reduce_prod,
    "ReduceLogSumExp": tf.reduce_logsumexp,
    "ReduceLogSum": _log_sum,
    "ReduceSumSquare": _sum_of_squares,
    "ReduceL1": _l1,
    "ReduceL2": _l2,
}

OPERATORS: dict[str, Callable[[Node], Any]] = {
    **{name: partial(_reduced, function) for name, function in _FUNCTIONS.items()},
    "CumSum": _running_sum,
    "Softmax": partial(_along_one_axis, tf.nn.softmax),
    "LogSoftmax": partial(_along_one_axis, tf.nn.log_softmax),
}
