"""The label of highest logit at each pixel, without enlarging the logits of every class.

Enlarging them all, only to keep one label for each pixel, takes most of a second and hundreds of
megabytes for a photograph.

A pixel's logits are a weighted mean of those of the four cells around it. So where a class is the
highest in all four cells, it is the highest at every pixel between them. The highest class is
looked for in the cells, at the size of the program's answer; only pixels between cells that
disagree, those along borders, are interpolated for all the classes. The result is
``sem_seg_postprocess`` (detectron2/modeling/postprocessing.py) followed by ``argmax``: bilinear as
PyTorch's ``interpolate`` (aten/src/ATen/native/UpSample.h), and the first of equal classes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from d2serve.handlers.errors import ModelFailed
from d2serve.handlers.outputs.records import Float32, Int32

Labels = npt.NDArray[np.unsignedinteger[Any]]
Places = npt.NDArray[np.intp]

# What is worked on at once stays in a core's cache: numbers of one class, and of all classes.
_PIXELS_AT_ONCE = 1 << 15
_LOGITS_AT_ONCE = 1 << 17


def label_map(logits: Float32, resized: tuple[int, int], height: int, width: int) -> Int32:
    """The label of highest logit at each pixel of the image as it was sent.

    Args:
        logits: (C, Hp, Wp), of the resized image with its padding to the right and below.
        resized: (height, width) of the resized image.
        height, width: of the image as it was sent, in pixels.

    Returns:
        (height, width).

    Raises:
        ModelFailed: a highest logit is infinite or not a number.
    """
    cells = _labels_of_cells(logits[:, : resized[0], : resized[1]])
    rows, columns = _Axis(cells.shape[0], height), _Axis(cells.shape[1], width)
    labels = cells.take(rows.low, axis=0).take(columns.low, axis=1)
    if cells.shape == labels.shape:
        return labels.astype(np.int32)
    between = _differ_from_next(cells).take(rows.low, axis=0).take(columns.low, axis=1)
    disputed = np.flatnonzero(between)
    by_class = logits.reshape(len(logits), -1)
    at_once = max(_LOGITS_AT_ONCE // len(logits), 1)
    for start in range(0, len(disputed), at_once):
        some = disputed[start : start + at_once]
        row, column = np.divmod(some, width)
        enlarged = _interpolated(by_class, logits.shape[2], rows, columns, row, column)
        labels.reshape(-1)[some] = _highest(enlarged)[1]
    return labels.astype(np.int32)


class _Axis:
    """Which two cells each pixel of one axis lies between, and what they weigh."""

    def __init__(self, cells: int, pixels: int) -> None:
        half = np.float32(0.5)
        centres = np.arange(pixels, dtype=np.float32) + half
        position = np.maximum(centres * (np.float32(cells) / np.float32(pixels)) - half, 0)
        self.low: Places = np.minimum(position.astype(np.intp), cells - 1)
        self.high: Places = np.minimum(self.low + 1, cells - 1)
        self.of_high: Float32 = np.clip(position - self.low, 0, 1).astype(np.float32)
        self.of_low: Float32 = np.float32(1) - self.of_high


def _labels_of_cells(logits: Float32) -> Labels:
    count, height, width = logits.shape
    labels = np.empty((height, width), _label_type(count))
    at_once = max(_PIXELS_AT_ONCE // width, 1)
    for start in range(0, height, at_once):
        rows = slice(start, start + at_once)
        highest, labels[rows] = _highest(logits[:, rows])
        if not np.isfinite(highest).all():  # NaN is higher than all numbers
            raise ModelFailed(
                "The model answered a logit of sem_seg that is infinite or not a number. "
                "Its weights are probably damaged: compare it with `d2serve verify`."
            )
    return labels


def _highest(logits: Float32) -> tuple[Float32, Labels]:
    """The highest along the first axis, and the first label that has it.

    One class after the other: ``argmax`` is slow along any but the last axis.
    """
    highest = logits[0].copy()
    kind = _label_type(len(logits))
    labels = np.zeros(highest.shape, kind)
    higher = np.empty(highest.shape, np.bool_)
    for label in range(1, len(logits)):
        np.greater(logits[label], highest, out=higher)
        np.maximum(logits[label], highest, out=highest)
        np.maximum(labels, higher.view(np.uint8) * kind(label), out=labels)
    return highest, labels


def _label_type(count: int) -> type[np.uint8] | type[np.uint16]:
    return np.uint8 if count <= 256 else np.uint16


def _differ_from_next(cells: Labels) -> npt.NDArray[np.bool_]:
    """(H, W) whether a cell and those to its right, below it and between these two differ."""
    differ = np.zeros(cells.shape, np.bool_)
    differ[:, :-1] = cells[:, 1:] != cells[:, :-1]
    differ[:-1] |= differ[1:]
    differ[:-1] |= cells[1:] != cells[:-1]
    return differ


def _interpolated(
    by_class: Float32, stride: int, rows: _Axis, columns: _Axis, row: Places, column: Places
) -> Float32:
    """(C, P) logits at some pixels, from (C, cells) logits with ``stride`` cells to the line."""
    west, east = columns.low[column], columns.high[column]
    of_west, of_east = columns.of_low[column], columns.of_high[column]
    north, south = rows.low[row] * stride, rows.high[row] * stride
    upper = by_class.take(north + west, axis=1) * of_west
    upper += by_class.take(north + east, axis=1) * of_east
    upper *= rows.of_low[row]
    lower = by_class.take(south + west, axis=1) * of_west
    lower += by_class.take(south + east, axis=1) * of_east
    lower *= rows.of_high[row]
    upper += lower
    return upper
