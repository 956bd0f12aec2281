"""Reading feature maps between their pixels: RoiAlign and GridSample.

RoiAlign's average over the samples of a bin is one product of a sparse matrix, with a row for a
bin and a column for a pixel, and the feature map. Each weight is a product of one along rows and
one along columns, so either axis is worked out for itself, and samples of a bin that read the same
pixel make one weight. How many samples a bin has depends on its box.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from d2serve.export.programs.tensorflow.values import Array, Node, Value


@dataclass(frozen=True)
class _Reads:
    """What the bins of every box read along one axis: one entry for a bin and a pixel."""

    box: Array
    bin: Array
    pixel: Array
    weight: Array
    starts: Array
    """Of each box, its first entry; int32."""
    counts: Array
    """Of each box, how many entries it has; int32."""


def _roi_align(node: Node) -> Value:
    if node.get("mode", "avg") != "avg":
        raise node.refusal(f"its mode is {node.get('mode')}, and not avg")
    images, image_of = node.array(0, last=True), tf.cast(node.array(2), tf.int64)
    sizes = tf.shape(images, tf.int64)
    corners = node.array(1) * np.float32(node.get("spatial_scale", 1.0))
    high, wide = node.get("output_height", 1), node.get("output_width", 1)
    rows = _reads(node, corners[:, 1], corners[:, 3], high, sizes[1])
    columns = _reads(node, corners[:, 0], corners[:, 2], wide, sizes[2])

    # Each entry of the rows with each of the columns of its box.
    times = tf.gather(columns.counts, rows.box)
    before = tf.cumsum(times, exclusive=True)
    row = _repeated(times, before)
    column = tf.range(tf.size(row)) + tf.gather(tf.gather(columns.starts, rows.box) - before, row)
    bins = (rows.box * high + rows.bin) * wide
    pixels = (tf.gather(image_of, rows.box) * sizes[1] + rows.pixel) * sizes[2]
    boxes = tf.shape(corners, tf.int64)[0]
    matrix = tf.SparseTensor(
        tf.stack(
            [
                tf.gather(bins, row) + tf.gather(columns.bin, column),
                tf.gather(pixels, row) + tf.gather(columns.pixel, column),
            ],
            axis=1,
        ),
        tf.gather(rows.weight, row) * tf.gather(columns.weight, column),
        tf.stack([boxes * high * wide, tf.reduce_prod(sizes[:3])]),
    )
    channels = images.shape[3] or sizes[3]
    averages = tf.sparse.sparse_dense_matmul(matrix, tf.reshape(images, [-1, channels]))
    return Value(tf.reshape(averages, [-1, high, wide, channels]), channels_last=True)


def _reads(node: Node, start: Array, end: Array, bins: int, size: Array) -> _Reads:
    """What boxes read along an axis of ``size`` pixels; ``start`` and ``end`` are (boxes,)."""
    half_pixel = node.get("coordinate_transformation_mode", "half_pixel") == "half_pixel"
    start, end = (start - 0.5, end - 0.5) if half_pixel else (start, end)
    length = end - start if half_pixel else tf.maximum(end - start, 1.0)
    of_bin = length / bins
    fixed = node.get("sampling_ratio", 0)
    samples = tf.fill(tf.shape(length), float(fixed)) if fixed else tf.math.ceil(of_bin)
    samples = tf.maximum(samples, 0.0)
    each = tf.range(tf.maximum(tf.reduce_max(samples), 0.0))
    where = (
        start[:, None, None]
        + tf.range(float(bins))[:, None] * of_bin[:, None, None]
        + (each + 0.5) * (of_bin / tf.maximum(samples, 1.0))[:, None, None]
    )  # (boxes, bins, samples)
    last = tf.cast(size - 1, tf.float32)
    counted = (each < samples[:, None, None]) & (where >= -1.0) & (where <= last + 1.0)
    where = tf.clip_by_value(where, 0.0, last)
    share = tf.where(counted, 1.0 / tf.maximum(samples, 1.0)[:, None, None], 0.0)
    if fixed:
        pixels, weights = _two_each(where, share, last)
        reads = tf.fill(tf.shape(length), 2 * fixed)
    else:
        pixels, weights = _next_to_each_other(where, share)
        reads = tf.cast(samples, tf.int32) + 1
    # Those of the boxes that need fewer are left out.
    needed = tf.range(tf.shape(pixels)[2]) < reads[:, None, None]
    needed = tf.broadcast_to(needed, tf.shape(pixels))
    entries = tf.where(needed)
    counts = reads * bins
    return _Reads(
        box=entries[:, 0],
        bin=entries[:, 1],
        pixel=tf.cast(tf.boolean_mask(tf.minimum(pixels, last), needed), tf.int64),
        weight=tf.boolean_mask(weights, needed),
        starts=tf.cumsum(counts, exclusive=True),
        counts=counts,
    )


def _two_each(where: Array, share: Array, last: Array) -> tuple[Array, Array]:
    """Of each sample the pixel before it and the one after it, with their weights."""
    before = tf.floor(where)
    part = where - before
    pixels = tf.concat([before, tf.minimum(before + 1.0, last)], 2)
    return pixels, tf.concat([(1.0 - part) * share, part * share], 2)


def _next_to_each_other(where: Array, share: Array) -> tuple[Array, Array]:
    """Pixels of a bin and their weights, where samples lie no further apart than pixels do.

    So many samples then read at most one pixel more.
    """
    first = tf.floor(where[:, :, :1])
    pixels = first + tf.range(tf.cast(tf.shape(where)[2] + 1, tf.float32))
    near = tf.maximum(1.0 - tf.abs(where[:, :, None, :] - pixels[..., None]), 0.0)
    return pixels, tf.reduce_sum(near * share[:, :, None, :], -1)


def _repeated(times: Array, before: Array) -> Array:
    """Each index as often as ``times`` says, at least once; ``before`` are their running sums."""
    total = tf.reduce_sum(times)
    begins = tf.scatter_nd(before[:, None], tf.ones_like(before), total[None])
    return tf.cumsum(begins) - 1


def _grid_sample(node: Node) -> Value:
    images, grid = node.array(0, last=True), node.array(1)
    if node.value(0).rank != 4:
        raise node.refusal("it samples volumes")
    padding, mode = node.get("padding_mode", "zeros"), node.get("mode", "bilinear")
    if padding not in ("zeros", "border") or mode not in ("bilinear", "nearest"):
        raise node.refusal(f"{mode} with {padding} is not one of bilinear, nearest; zeros, border")
    sizes = tf.shape(images, tf.int64)
    axes = [
        _on_axis(node, grid[..., 1 - axis], sizes[1 + axis], padding == "border") for axis in (0, 1)
    ]
    channels = images.shape[3] or sizes[3]
    flat = tf.reshape(images, [-1, channels])
    image = tf.range(sizes[0])[:, None, None]
    made = None
    for row, row_weight in axes[0]:
        for column, column_weight in axes[1]:
            place = (image * sizes[1] + row) * sizes[2] + column
            part = tf.gather(flat, place) * (row_weight * column_weight)[..., None]
            made = part if made is None else made + part
    return Value(made, channels_last=True)


def _on_axis(node: Node, grid: Array, size: Array, border: bool) -> list[tuple[Array, Array]]:
    """Pixels and weights along an axis, for places from -1 to 1 across the image."""
    wide = tf.cast(size, tf.float32)
    if node.get("align_corners", 0):
        where = (grid + 1.0) / 2.0 * (wide - 1.0)
    else:
        where = ((grid + 1.0) * wide - 1.0) / 2.0
    if border:
        where = tf.clip_by_value(where, 0.0, wide - 1.0)
    if node.get("mode", "bilinear") == "nearest":
        return [_inside(tf.round(where), tf.ones_like(where), wide)]
    before = tf.floor(where)
    share = where - before
    return [_inside(before, 1.0 - share, wide), _inside(before + 1.0, share, wide)]


def _inside(pixel: Array, weight: Array, wide: Array) -> tuple[Array, Array]:
    inside = (pixel >= 0.0) & (pixel < wide)
    kept = tf.clip_by_value(pixel, 0.0, wide - 1.0)
    return tf.cast(kept, tf.int64), tf.where(inside, weight, 0.0)


OPERATORS: dict[str, Callable[[Node], Any]] = {
    "RoiAlign": _roi_align,
    "GridSample": _grid_sample,
}
