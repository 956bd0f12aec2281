"""Operators that compute each element for itself, in whichever order the axes are."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, reduce
from typing import Any

import numpy as np
import onnx
import tensorflow as tf

from d2serve.export.programs.tensorflow.values import Array, Constant, Node, Value, in_one_order


def _each(function: Callable[..., Array], node: Node) -> Value:
    """Broadcasts what the node is given and applies a function to it."""
    arrays, last = in_one_order(node, node.given)
    return Value(function(*arrays), channels_last=last)


def _same(node: Node) -> Value:
    return node.value(0)


def _dtype(array: Array) -> Any:
    return tf.as_dtype(array.dtype)


def _divide(x: Array, y: Array) -> Array:
    # Integers are divided towards zero.
    return tf.raw_ops.TruncateDiv(x=x, y=y) if _dtype(x).is_integer else tf.divide(x, y)


def _power(x: Array, y: Array) -> Array:
    return tf.pow(x, tf.cast(y, x.dtype))


def _modulo(node: Node) -> Value:
    # Of the divisor's sign, or as C's fmod of the dividend's.
    return _each(tf.truncatemod if node.get("fmod", 0) else tf.math.floormod, node)


def _cast(node: Node) -> Value:
    to = onnx.helper.tensor_dtype_to_np_dtype(node.get("to"))
    value = node.value(0)
    if value.constant is not None:
        return Value(_cast_constant(value.constant, np.dtype(to)))
    return Value(tf.cast(value.data, to), value.channels_last)


def _cast_constant(constant: Constant, to: np.dtype[Any]) -> Constant:
    with np.errstate(invalid="ignore"):  # of infinity there is no integer
        return constant.astype(to)


def _clip(node: Node) -> Value:
    value = node.value(0)
    data = node.array(0) if value.constant is not None else value.data
    if node.has(1):
        data = tf.maximum(data, node.array(1))
    if node.has(2):
        data = tf.minimum(data, node.array(2))
    return Value(data, value.channels_last)


def _leaky(node: Node) -> Value:
    return _each(partial(tf.nn.leaky_relu, alpha=node.get("alpha", 0.01)), node)


def _elu(node: Node) -> Value:
    alpha = node.get("alpha", 1.0)
    return _each(lambda x: tf.where(x > 0, x, alpha * tf.math.expm1(tf.minimum(x, 0.0))), node)


def _hard_sigmoid(node: Node) -> Value:
    alpha, beta = node.get("alpha", 0.2), node.get("beta", 0.5)
    return _each(lambda x: tf.clip_by_value(alpha * x + beta, 0.0, 1.0), node)


def _hard_swish(x: Array) -> Array:
    return x * tf.clip_by_value(x / 6.0 + 0.5, 0.0, 1.0)


def _parametric(x: Array, slope: Array) -> Array:
    return tf.where(x < 0, slope * x, x)


def _folded(function: Callable[[Array, Array], Array], *arrays: Array) -> Array:
    return reduce(function, arrays)


_FUNCTIONS: dict[str, Callable[..., Array]] = {
    "Abs": tf.abs,
    "Neg": tf.negative,
    "Sign": tf.sign,
    "Floor": tf.floor,
    "Ceil": tf.math.ceil,
    "Round": tf.round,
    "Sqrt": tf.sqrt,
    "Reciprocal": tf.math.reciprocal,
    "Exp": tf.exp,
    "Log": tf.math.log,
    "Erf": tf.math.erf,
    "Sin": tf.sin,
    "Cos": tf.cos,
    "Tan": tf.tan,
    "Asin": tf.asin,
    "Acos": tf.acos,
    "Atan": tf.atan,
    "Tanh": tf.tanh,
    "Sigmoid": tf.sigmoid,
    "Softplus": tf.math.softplus,
    "Softsign": tf.nn.softsign,
    "Relu": tf.nn.relu,
    "PRelu": _parametric,
    "HardSwish": _hard_swish,
    "Add": tf.add,
    "Sub": tf.subtract,
    "Mul": tf.multiply,
    "Div": _divide,
    "Pow": _power,
    "Max": partial(_folded, tf.maximum),
    "Min": partial(_folded, tf.minimum),
    "Sum": partial(_folded, tf.add),
    "And": tf.logical_and,
    "Or": tf.logical_or,
    "Xor": tf.math.logical_xor,
    "Not": tf.logical_not,
    "Equal": tf.equal,
    "Greater": tf.greater,
    "GreaterOrEqual": tf.greater_equal,
    "Less": tf.less,
    "LessOrEqual": tf.less_equal,
    "IsNaN": tf.math.is_nan,
    "Where": tf.where,
}

OPERATORS: dict[str, Callable[[Node], Any]] = {
    **{name: partial(_each, function) for name, function in _FUNCTIONS.items()},
    "Identity": _same,
    "Dropout": _same,
    "Cast": _cast,
    "Clip": _clip,
    "Mod": _modulo,
    "LeakyRelu": _leaky,
    "Elu": _elu,
    "HardSigmoid": _hard_sigmoid,
}
