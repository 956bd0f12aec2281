"""Enlarging and shrinking, exactly where ONNX puts its pixels.

TensorFlow's own operator is taken for what it computes in the same way. The rest is put together
from the pixels on either side, an axis at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from d2serve.export.programs.tensorflow.values import IMAGES, Array, Node, Value, axis_in

_FIRST = 2
"""Before the axes that are resized lie those of the batch and of the channels."""


@dataclass(frozen=True)
class _Axis:
    """How one axis is resized."""

    index: int
    given: Array
    """Its size, int64."""
    made: Array
    scale: Array
    """What one is of the other, float32, as the program says it."""


def _resize(node: Node) -> Value:
    value = node.value(0)
    if value.rank is None or value.rank <= _FIRST:
        raise node.refusal(f"its input has {value.rank} axes, of which none is of rows or columns")
    if node.get("exclude_outside", 0) or node.get("extrapolation_value", 0):
        raise node.refusal("pixels beyond the border have values of their own")
    axes = [_axis(node, value, index) for index in range(_FIRST, value.rank)]
    if value.rank == IMAGES and _as_tensorflow_does(node, axes):
        size = tf.stack([tf.cast(each.made, tf.int32) for each in axes])
        images = node.array(0, last=True)
        made = tf.raw_ops.ResizeBilinear(images=images, size=size, half_pixel_centers=True)
        return Value(made, channels_last=True)
    data = tf.convert_to_tensor(node.ordered(value, value.channels_last))
    for each in axes:
        data = _along(node, data, each, axis_in(value, each.index))
    return Value(data, value.channels_last)


def _axis(node: Node, value: Value, index: int) -> _Axis:
    place = axis_in(value, index)
    known = value.data.shape[place]
    given = tf.shape(value.data, tf.int64)[place] if known is None else np.int64(known)
    as_float = tf.cast(given, tf.float32)
    if node.has(3):
        made = tf.cast(node.array(3)[index], tf.int64)
        return _Axis(index, given, made, tf.cast(made, tf.float32) / as_float)
    scale = node.array(2)[index]
    return _Axis(index, given, tf.cast(tf.floor(as_float * scale), tf.int64), scale)


def _as_tensorflow_does(node: Node, axes: list[_Axis]) -> bool:
    # TensorFlow takes the factor from the sizes, which are rounded.
    exact = node.has(3) or all(
        isinstance(each.scale, np.floating) and each.scale == round(each.scale) for each in axes
    )
    return exact and (
        node.get("mode", "nearest"),
        node.get("coordinate_transformation_mode", "half_pixel"),
    ) == ("linear", "half_pixel")


def _along(node: Node, data: Array, axis: _Axis, place: int) -> Array:
    where = _where(node, axis)
    taps = _TAPS[node.get("mode", "nearest")](node, where, axis)
    wide = [1] * data.shape.rank
    wide[place] = -1
    made = None
    for pixels, weights in taps:
        inside = tf.clip_by_value(tf.cast(pixels, tf.int64), 0, axis.given - 1)
        part = tf.gather(data, inside, axis=place)
        if weights is not None:
            part = part * tf.reshape(weights, wide)
        made = part if made is None else made + part
    return made


def _where(node: Node, axis: _Axis) -> Array:
    """Of each pixel that is made, where it lies among those given."""
    places = tf.cast(tf.range(axis.made), tf.float32)
    mode = node.get("coordinate_transformation_mode", "half_pixel")
    if mode == "asymmetric":
        return places / axis.scale
    if mode == "align_corners":
        given, made = (tf.cast(each - 1, tf.float32) for each in (axis.given, axis.made))
        return places * given / tf.maximum(made, 1.0)
    if mode in ("half_pixel", "pytorch_half_pixel"):
        where = (places + 0.5) / axis.scale - 0.5
        alone = mode == "pytorch_half_pixel" and axis.made <= 1
        return tf.where(alone, tf.zeros_like(where), where)
    raise node.refusal(f"it does not know where {mode} puts pixels")


_Taps = list[tuple[Array, Array]]


def _nearest(node: Node, where: Array, _axis: _Axis) -> _Taps:
    mode = node.get("nearest_mode", "round_prefer_floor")
    rounding: dict[str, Callable[[Array], Array]] = {
        "floor": tf.floor,
        "ceil": tf.math.ceil,
        "round_prefer_floor": lambda each: tf.math.ceil(each - 0.5),
        "round_prefer_ceil": lambda each: tf.floor(each + 0.5),
    }
    return [(rounding[mode](where), None)]


def _linear(_node: Node, where: Array, axis: _Axis) -> _Taps:
    inside = tf.clip_by_value(where, 0.0, tf.cast(axis.given - 1, tf.float32))
    before = tf.floor(inside)
    share = inside - before
    return [(before, 1.0 - share), (before + 1.0, share)]


def _cubic(node: Node, where: Array, _axis: _Axis) -> _Taps:
    """Four pixels, weighted by Keys' convolution (1981) with the node's coefficient."""
    a = node.get("cubic_coeff_a", -0.75)
    before = tf.floor(where)
    x = where - before
    far, near = x + 1.0, 1.0 - x
    return [
        (before - 1.0, ((a * far - 5.0 * a) * far + 8.0 * a) * far - 4.0 * a),
        (before, ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0),
        (before + 1.0, ((a + 2.0) * near - (a + 3.0)) * near * near + 1.0),
        (
            before + 2.0,
            ((a * (near + 1.0) - 5.0 * a) * (near + 1.0) + 8.0 * a) * (near + 1.0) - 4.0 * a,
        ),
    ]


_TAPS: dict[str, Callable[[Node, Array, _Axis], _Taps]] = {
    "nearest": _nearest,
    "linear": _linear,
    "cubic": _cubic,
}

OPERATORS: dict[str, Callable[[Node], Any]] = {"Resize": _resize}
