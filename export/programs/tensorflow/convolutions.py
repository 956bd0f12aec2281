"""Convolutions and transposed ones over rows and columns, with channels last as the CPU wants them.

TensorFlow's convolution of an empty batch gives a wrong shape on the CPU: it has as many channels
as what went in. So a batch that may be empty gets a row more when it is, which is cut off again.
Where each channel is convolved for itself, TensorFlow's own operator for that ends the process in
some programs, as it is optimised; one of as many groups as channels is as fast.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from d2serve.export.programs.tensorflow.values import IMAGES, Array, Node, Value

_TO_ROWS_FIRST = (2, 3, 1, 0)
"""From ONNX's (out, in, rows, columns) to TensorFlow's (rows, columns, in, out). A transposed
convolution has (in, out, rows, columns) in ONNX and (rows, columns, out, in) in TensorFlow."""
_LINES = 3
"""Axes of what has channels and columns only, and comes in batches."""
Sides = Sequence[Sequence[int]]


def padding_of(node: Node, axes: int = 2) -> Sides:
    """How much goes before and after each axis.

    Raises:
        ProgramError: that follows from sizes (``auto_pad``), which torch never writes.
    """
    automatic = node.get("auto_pad", "NOTSET")
    if automatic not in ("NOTSET", "VALID"):
        raise node.refusal(f"its padding is {automatic}")
    pads = node.get("pads", [0] * 2 * axes)
    return [(pads[axis], pads[axes + axis]) for axis in range(axes)]


def of_rows_and_columns(node: Node) -> Array:
    """The images that a node is given, channels last.

    Raises:
        ProgramError: they have not one axis for rows and one for columns.
    """
    rank = node.value(0).rank
    if rank != IMAGES:
        raise node.refusal(f"its input has {rank} axes, and not the four of a batch of images")
    return node.array(0, last=True)


def _convolution(node: Node) -> Value:
    if node.value(0).rank == _LINES:
        return _of_lines(node)
    padding = padding_of(node)
    strides, dilations = node.get("strides", [1, 1]), node.get("dilations", [1, 1])
    made = _convolved(node, of_rows_and_columns(node), _filters(node), padding, strides, dilations)
    return Value(made, channels_last=True)


def _of_lines(node: Node) -> Value:
    """A convolution over one axis, as one over images of one row."""
    lines = tf.expand_dims(tf.transpose(node.array(0), (0, 2, 1)), 1)
    filters = _filters(node, (2, 1, 0))
    padding = [(0, 0), *padding_of(node, 1)]
    strides, dilations = [1, *node.get("strides", [1])], [1, *node.get("dilations", [1])]
    made = _convolved(node, lines, tf.expand_dims(filters, 0), padding, strides, dilations)
    return Value(tf.transpose(tf.squeeze(made, 1), (0, 2, 1)))


def _convolved(
    node: Node,
    images: Array,
    filters: Array,
    padding: Sides,
    strides: Sequence[int],
    dilations: Sequence[int],
) -> Array:
    channels = None if filters.shape[2] is None else filters.shape[2] * node.get("group", 1)
    images.set_shape([None, None, None, channels])
    around = _explicit(padding)
    return _never_empty(
        images,
        lambda batch: _biased(
            node, tf.nn.conv2d(batch, filters, strides, around, dilations=dilations)
        ),
    )


def _transposed(node: Node) -> Value:
    images, padding = of_rows_and_columns(node), padding_of(node)
    strides, dilations = node.get("strides", [1, 1]), node.get("dilations", [1, 1])
    added, filters = node.get("output_padding", [0, 0]), _filters(node)
    if node.get("group", 1) != 1:
        raise node.refusal("it is in groups")
    if node.get("output_shape") is not None:
        raise node.refusal("the shape of its output is given, and not its padding")

    def sizes(batch: Array) -> Array:
        given, window = tf.shape(batch), tf.shape(filters)
        made = [
            strides[axis] * (given[axis + 1] - 1)
            + added[axis]
            + (window[axis] - 1) * dilations[axis]
            + 1
            - sum(padding[axis])
            for axis in (0, 1)
        ]
        return tf.stack([given[0], *made, window[2]])

    def convolved(batch: Array) -> Array:
        return tf.nn.conv2d_transpose(
            batch, filters, sizes(batch), strides, _explicit(padding), dilations=dilations
        )

    return Value(_never_empty(images, lambda batch: _biased(node, convolved(batch))), True)


def _explicit(padding: Sides) -> Any:
    return "VALID" if not any(map(sum, padding)) else [(0, 0), *padding, (0, 0)]


def _filters(node: Node, order: Sequence[int] = _TO_ROWS_FIRST) -> Array:
    constant = node.value(1).constant
    return tf.transpose(node.array(1), order) if constant is None else node.weight(constant, order)


def _biased(node: Node, made: Array) -> Array:
    return tf.nn.bias_add(made, node.array(2)) if node.has(2) else made


def _never_empty(images: Array, function: Callable[[Array], Array]) -> Array:
    if images.shape[0]:  # known, and not 0
        return function(images)
    sizes = tf.shape(images)
    more = tf.concat([1 - tf.minimum(sizes[:1], 1), sizes[1:]], 0)
    made = function(tf.concat([images, tf.zeros(more, images.dtype)], 0))
    return made[: sizes[0]]


OPERATORS: dict[str, Callable[[Node], Any]] = {
    "Conv": _convolution,
    "ConvTranspose": _transposed,
}
