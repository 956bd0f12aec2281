"""Pooling of rows and columns, with channels last as convolutions leave them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from d2serve.export.programs.tensorflow.convolutions import (
    Sides,
    of_rows_and_columns,
    padding_of,
)
from d2serve.export.programs.tensorflow.values import Array, Node, Value


def _greatest(node: Node) -> Value:
    if node.outputs > 1:
        raise node.refusal("the places of what it finds are asked for")
    images = of_rows_and_columns(node)
    padded = _padded(images, _padding(node, images), images.dtype.min)
    window, strides = node.get("kernel_shape"), node.get("strides", [1, 1])
    return Value(tf.nn.max_pool2d(padded, window, strides, "VALID"), channels_last=True)


def _average(node: Node) -> Value:
    images = of_rows_and_columns(node)
    padding = _padding(node, images)
    window, strides = node.get("kernel_shape"), node.get("strides", [1, 1])
    pooled = tf.nn.avg_pool2d(_padded(images, padding, 0), window, strides, "VALID")
    counted = padding_of(node) if node.get("count_include_pad", 0) else ((0, 0), (0, 0))
    if not _is_nothing(padding) and padding != counted:
        # Of each window, the share that counts.
        ones = _padded(tf.ones_like(images[:1, :, :, :1]), counted, 1)
        rest = [[every[0] - some[0], every[1] - some[1]] for every, some in zip(padding, counted)]
        shares = tf.nn.avg_pool2d(_padded(ones, rest, 0), window, strides, "VALID")
        pooled = pooled / shares
    return Value(pooled, channels_last=True)


def _padding(node: Node, images: Array) -> Any:
    """What goes around, with so much more at the end that no window is left out by rounding."""
    if any(each != 1 for each in node.get("dilations", [1, 1])):
        raise node.refusal("its windows have gaps")
    padding = padding_of(node)
    if not node.get("ceil_mode", 0):
        return padding
    sizes = tf.shape(images)
    more = []
    for axis, (before, after) in enumerate(padding):
        window, stride = node.get("kernel_shape")[axis], node.get("strides", [1, 1])[axis]
        given = sizes[axis + 1] + before
        steps = -((window - given - after) // stride)
        # The last window must begin before the padding at the end does.
        steps -= tf.cast(steps * stride >= given, tf.int32)
        more.append([before, tf.maximum(steps * stride + window - given, after)])
    return more


def _is_nothing(padding: Any) -> bool:
    return all(isinstance(each, int) and each == 0 for pair in padding for each in pair)


def _padded(images: Array, padding: Sides, filling: float) -> Array:
    if _is_nothing(padding):
        return images
    return tf.pad(images, [(0, 0), *padding, (0, 0)], constant_values=filling)


def _average_of_all(node: Node) -> Value:
    return Value(tf.reduce_mean(of_rows_and_columns(node), [1, 2], keepdims=True), True)


def _greatest_of_all(node: Node) -> Value:
    return Value(tf.reduce_max(of_rows_and_columns(node), [1, 2], keepdims=True), True)


OPERATORS: dict[str, Callable[[Node], Any]] = {
    "MaxPool": _greatest,
    "AveragePool": _average,
    "GlobalAveragePool": _average_of_all,
    "GlobalMaxPool": _greatest_of_all,
}
