"""Operators that read or write the elements that other tensors name, and those that find them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from d2serve.export.programs.tensorflow.values import (
    IMAGES,
    Array,
    Node,
    Value,
    dims,
    in_one_order,
    rank_of,
)


def _from_the_beginning(indices: Array, size: Array) -> Array:
    """Indices of which negative ones count from the end, without negative ones."""
    if isinstance(indices, np.ndarray) and (indices >= 0).all():
        return indices
    return tf.where(indices < 0, indices + tf.cast(size, indices.dtype), indices)


def _gather(node: Node) -> Value:
    value, indices, axis = node.value(0), node.array(1), node.get("axis", 0)
    if value.elements and isinstance(indices, np.ndarray):
        known = [value.elements[index] for index in indices.reshape(-1)]
        if None not in known:
            return Value(np.asarray(known, np.int64).reshape(indices.shape))
    rows = value.channels_last and axis == 0 and rank_of(indices) == 1
    data = node.ordered(value, last=rows)
    if rank_of(indices) == 0 and isinstance(indices, np.ndarray) and rank_of(data) is not None:
        place: list[Any] = [slice(None)] * (axis % (rank_of(data) or 1))
        # A slice, through which TensorFlow follows the numbers of a shape.
        return Value(tf.convert_to_tensor(data)[(*place, int(indices))])
    indices = _from_the_beginning(indices, dims(data)[axis])
    return Value(tf.gather(data, indices, axis=axis), channels_last=rows)


def _coordinates(node: Node, data: Array, indices: Array) -> Array:
    """Of each element of ``indices`` the whole place in ``data``, along the last axis."""
    rank = node.rank()
    axis = node.get("axis", 0) % rank
    sizes = dims(indices)
    along = [tf.range(sizes[each]) for each in range(rank)]
    places = tf.meshgrid(*along, indexing="ij")
    places[axis] = tf.cast(_from_the_beginning(indices, dims(data)[axis]), tf.int64)
    return tf.stack(places, axis=-1)


def _gather_elements(node: Node) -> Array:
    data, indices = node.array(0), node.array(1)
    return tf.gather_nd(data, _coordinates(node, data, indices))


def _tuples_from_the_beginning(node: Node, data: Array, indices: Array, skipped: int = 0) -> Array:
    depth = indices.shape[-1]
    if depth is None:
        raise node.refusal("how many axes it indexes depends on the image")
    return _from_the_beginning(indices, dims(data)[skipped : skipped + depth])


def _gather_nd(node: Node) -> Array:
    data, indices, batch = node.array(0), node.array(1), node.get("batch_dims", 0)
    return tf.gather_nd(
        data, _tuples_from_the_beginning(node, data, indices, batch), batch_dims=batch
    )


_REDUCTIONS: dict[str, Callable[..., Array]] = {
    "none": tf.tensor_scatter_nd_update,
    "add": tf.tensor_scatter_nd_add,
    "max": tf.tensor_scatter_nd_max,
    "min": tf.tensor_scatter_nd_min,
}


def _written(node: Node, data: Array, indices: Array, updates: Array) -> Array:
    reduction = node.get("reduction", "none")
    if reduction not in _REDUCTIONS:
        raise node.refusal(f"its reduction {reduction} is not one of {', '.join(_REDUCTIONS)}")
    return _REDUCTIONS[reduction](data, indices, updates)


def _scatter_nd(node: Node) -> Value:
    data, updates = node.value(0), node.value(2)
    indices = node.array(1)
    # Whole rows can stay in the order they are in.
    rows = indices.shape[-1] == 1 and data.rank == updates.rank == IMAGES
    (onto, new), last = (
        in_one_order(node, (data, updates)) if rows else ([node.array(0), node.array(2)], False)
    )
    places = _tuples_from_the_beginning(node, onto, indices)
    return Value(_written(node, onto, places, new), channels_last=last)


def _scatter_elements(node: Node) -> Array:
    data, indices = node.array(0), node.array(1)
    return _written(node, data, _coordinates(node, data, indices), node.array(2))


def _non_zero(node: Node) -> Array:
    x = node.array(0)
    return tf.transpose(tf.where(x if x.dtype == tf.bool else tf.not_equal(x, 0)))


def _one_hot(node: Node) -> Array:
    indices, depth, values = node.array(0), tf.reshape(node.array(1), []), node.array(2)
    wanted = _from_the_beginning(tf.cast(indices, tf.int64), depth)
    return tf.one_hot(
        wanted,
        tf.cast(depth, tf.int32),
        on_value=values[1],
        off_value=values[0],
        axis=node.get("axis", -1),
        dtype=values.dtype,
    )


def _top_k(node: Node) -> Sequence[Array]:
    x, count = node.array(0), tf.cast(tf.reshape(node.array(1), []), tf.int32)
    rank = node.rank()
    axis = node.get("axis", -1) % rank
    order = [*(each for each in range(rank) if each != axis), axis]
    back = [order.index(each) for each in range(rank)]
    along = x if axis == rank - 1 else tf.transpose(x, order)
    sign = 1 if node.get("largest", 1) else -1
    values, places = tf.math.top_k(sign * along, count)
    found = sign * values, tf.cast(places, tf.int64)
    return found if axis == rank - 1 else [tf.transpose(each, back) for each in found]


def _arg(function: Callable[..., Array], node: Node) -> Array:
    x, axis = node.array(0), node.get("axis", 0)
    if node.get("select_last_index", 0):
        sizes = dims(x)
        found = sizes[axis] - 1 - function(tf.reverse(x, [axis]), axis, output_type=tf.int64)
    else:
        found = function(x, axis, output_type=tf.int64)
    return tf.expand_dims(found, axis) if node.get("keepdims", 1) else found


def _arg_max(node: Node) -> Array:
    return _arg(tf.argmax, node)


def _arg_min(node: Node) -> Array:
    return _arg(tf.argmin, node)


OPERATORS: dict[str, Callable[[Node], Any]] = {
    "Gather": _gather,
    "GatherElements": _gather_elements,
    "GatherND": _gather_nd,
    "ScatterND": _scatter_nd,
    "ScatterElements": _scatter_elements,
    "NonZero": _non_zero,
    "OneHot": _one_hot,
    "TopK": _top_k,
    "ArgMax": _arg_max,
    "ArgMin": _arg_min,
}
