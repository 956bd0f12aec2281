"""Products of matrices, and the normalisations between them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from d2serve.export.programs.tensorflow.values import (
    Array,
    Node,
    Value,
    rank_of,
)


def _matrices(node: Node) -> Array:
    x, y = node.array(0), node.array(1)
    row, column = rank_of(x) == 1, rank_of(y) == 1
    product = tf.matmul(
        tf.expand_dims(x, 0) if row else x,
        tf.expand_dims(y, 1) if column else y,
    )
    gone = [axis for axis, vector in ((-2, row), (-1, column)) if vector]
    return tf.squeeze(product, gone) if gone else product


def _general(node: Node) -> Array:
    x, weight = node.array(0), node.value(1)
    transposed = bool(node.get("transB", 0))
    if weight.constant is not None and transposed:
        y = node.weight(weight.constant, (1, 0))
    else:
        y = tf.transpose(node.array(1)) if transposed else node.array(1)
    product = tf.matmul(x, y, transpose_a=bool(node.get("transA", 0)))
    alpha, beta = node.get("alpha", 1.0), node.get("beta", 1.0)
    if alpha != 1:
        product = alpha * product
    if not node.has(2):
        return product
    return product + (node.array(2) if beta == 1 else beta * node.array(2))


def _einsum(node: Node) -> Array:
    return tf.einsum(
        node.get("equation"), *(node.array(index) for index in range(len(node.values)))
    )


def _batch_norm(node: Node) -> Value:
    if node.get("training_mode", 0):
        raise node.refusal("it is in training mode")
    value = node.value(0)
    scale, bias, mean, variance = (node.array(index) for index in range(1, 5))
    factor = scale / tf.sqrt(variance + node.get("epsilon", 1e-5))
    shift = bias - mean * factor
    data = node.ordered(value, value.channels_last)
    if not value.channels_last and value.rank:
        along = [-1] + [1] * (value.rank - 2)
        factor, shift = tf.reshape(factor, along), tf.reshape(shift, along)
    return Value(data * factor + shift, value.channels_last)


def _instance_norm(node: Node) -> Value:
    value = node.value(0)
    rank = node.rank()
    last = value.channels_last
    data = node.ordered(value, last)
    axes = [1, 2] if last else list(range(2, rank))
    along = [-1] if last else [-1] + [1] * (rank - 2)
    scale, bias = (tf.reshape(node.array(index), along) for index in (1, 2))
    normal = _normal(data, axes, node.get("epsilon", 1e-5))[0]
    return Value(normal * scale + bias, last)


def _layer_norm(node: Node) -> Sequence[Array]:
    x = node.array(0)
    rank = node.rank()
    axes = list(range(node.get("axis", -1) % rank, rank))
    normal, mean, inverse = _normal(x, axes, node.get("epsilon", 1e-5))
    answer = normal * node.array(1)
    return answer + node.array(2) if node.has(2) else answer, mean, inverse


def _normal(x: Array, axes: Sequence[int], epsilon: float) -> tuple[Array, Array, Array]:
    """With mean 0 and variance 1 over axes, the mean, and the inverse of the deviation."""
    mean = tf.reduce_mean(x, axes, keepdims=True)
    rest = x - mean
    inverse = tf.math.rsqrt(tf.reduce_mean(tf.square(rest), axes, keepdims=True) + epsilon)
    return rest * inverse, mean, inverse


OPERATORS: dict[str, Callable[[Node], Any]] = {
    "MatMul": _matrices,
    "Gemm": _general,
    "Einsum": _einsum,
    "BatchNormalization": _batch_norm,
    "InstanceNormalization": _instance_norm,
    "LayerNormalization": _layer_norm,
}
