"""Why: pasting each mask into a full image and encoding that image costs more than the network.

A pasted mask is zero outside its box, so the run lengths come straight from the box's crop. The
result equals ``paste_masks_in_image`` followed by ``pycocotools.mask.encode`` bit for bit: where a
probability is so near the threshold that rounding decides, it is computed again in the order of
operations of PyTorch's ``grid_sample`` (aten/src/ATen/native/cpu/GridSamplerKernel.cpp), which
contracts to fused multiply-adds on the CPUs it is compiled for.
"""

from __future__ import annotations

from typing import TypedDict

import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco_mask

Float32 = npt.NDArray[np.float32]
Bool = npt.NDArray[np.bool_]

# Two orders of float32 arithmetic on weights in [0, 1] differ by about 1e-6 at most.
_ROUNDING = np.float32(4e-6)

# Zero cells before a mask; two follow it, so that every pixel of a crop has two neighbours.
_BORDER = 1


class Rle(TypedDict):
    """COCO's compressed run-length encoding."""

    size: list[int]
    """[height, width] of the image."""
    counts: str


class _Axis:
    """How one axis of the crop samples a mask: detectron2's ``_do_paste_mask`` in one dimension."""

    def __init__(self, low: np.float32, high: np.float32, length: int, cells: int) -> None:
        one, half = np.float32(1), np.float32(0.5)
        self.start = max(int(np.floor(low)) - 1, 0)
        self.stop = max(min(int(np.ceil(high)) + 1, length), self.start)
        centres = np.arange(self.start, self.stop, dtype=np.float32) + half
        with np.errstate(over="ignore"):  # a box narrower than 1e-30 pixels sends them to infinity
            normalised = (centres - low) / (high - low) * np.float32(2) - one
            position = _fma(normalised + one, np.float32(cells / 2), -half)
        # Beyond the mask everything is zero, however far.
        position = np.clip(position, np.float32(-1), np.float32(cells))
        floor = np.floor(position)
        self.upper: Float32 = position - floor
        self.lower: Float32 = one - self.upper
        self.cell = floor.astype(np.int64) + _BORDER
        """Index into the bordered mask of the neighbour that ``lower`` weighs."""

    def matrix(self, cells: int) -> Float32:
        """(stop - start, cells + 3) bilinear weights over the bordered mask."""
        rows = np.arange(len(self.cell))
        weights = np.zeros((len(self.cell), cells + 3), np.float32)
        weights[rows, self.cell] = self.lower
        weights[rows, self.cell + 1] = self.upper
        return weights


def _fma(
    a: npt.NDArray[np.float32], b: npt.NDArray[np.float32] | np.float32, c: Float32 | np.float32
) -> Float32:
    # The product of two float32 is exact in float64, so only the final rounding remains.
    exact = a.astype(np.float64) * np.asarray(b, np.float64) + np.asarray(c, np.float64)
    return exact.astype(np.float32)


def paste_in_crop(
    mask: Float32, box: Float32, height: int, width: int, threshold: float
) -> tuple[Bool, int, int]:
    """Paste one ROI mask, within its box only.

    Args:
        mask: (M, M) probabilities.
        box: (4,) XYXY_ABS in pixels of the image, not empty.
        height, width: of the image.
        threshold: a pixel is set when its probability is at least this.

    Returns:
        The crop (h, w), and the row and column of the image where it starts.
    """
    cells = mask.shape[0]
    x_axis = _Axis(box[0], box[2], width, cells)
    y_axis = _Axis(box[1], box[3], height, cells)
    bordered = np.zeros((cells + 3, cells + 3), np.float32)
    bordered[_BORDER : _BORDER + cells, _BORDER : _BORDER + cells] = mask
    probability = y_axis.matrix(cells) @ bordered @ x_axis.matrix(cells).T
    crop = probability >= np.float32(threshold)
    doubtful = np.nonzero(np.abs(probability - np.float32(threshold)) <= _ROUNDING)
    if len(doubtful[0]):
        crop[doubtful] = _as_grid_sample(bordered, x_axis, y_axis, doubtful) >= threshold
    return crop, y_axis.start, x_axis.start


def _as_grid_sample(
    bordered: Float32, x_axis: _Axis, y_axis: _Axis, where: tuple[npt.NDArray[np.intp], ...]
) -> Float32:
    rows, columns = where
    y, x = y_axis.cell[rows], x_axis.cell[columns]
    south, north = y_axis.lower[rows], y_axis.upper[rows]
    east, west = x_axis.lower[columns], x_axis.upper[columns]
    total = bordered[y, x] * (south * east)
    total = _fma(bordered[y, x + 1], south * west, total)
    total = _fma(bordered[y + 1, x], north * east, total)
    return _fma(bordered[y + 1, x + 1], north * west, total)


def encode_crop(crop: Bool, top: int, left: int, height: int, width: int) -> Rle:
    """COCO RLE of an image that is zero but for a crop.

    Args:
        crop: (h, w), lying wholly inside the image.
        top, left: where it starts.
        height, width: of the image.
    """
    # COCO counts run down the columns. With a zero above and below, every change of value in a
    # column of the crop is where a run starts or ends.
    columns = np.zeros((crop.shape[1], crop.shape[0] + 2), np.int8)
    columns[:, 1:-1] = crop.T
    column, row = np.nonzero(np.diff(columns, axis=1))
    borders = (left + column) * height + top + row
    # A run that reaches the bottom of one column and goes on at the top of the next is one run.
    joins = np.nonzero(borders[1:-1:2] == borders[2::2])[0]
    borders = np.delete(borders, np.concatenate([2 * joins + 1, 2 * joins + 2]))
    counts = np.diff(borders, prepend=0, append=height * width)
    if len(counts) > 1 and counts[-1] == 0:
        counts = counts[:-1]
    plain = {"size": [height, width], "counts": counts.tolist()}
    packed = coco_mask.frPyObjects(plain, height, width)
    return {"size": [height, width], "counts": packed["counts"].decode("ascii")}


def encode_masks(
    masks: Float32, boxes: Float32, height: int, width: int, threshold: float
) -> tuple[Rle, ...]:
    """COCO RLEs of ROI masks pasted into the image.

    Args:
        masks: (N, M, M) probabilities.
        boxes: (N, 4) XYXY_ABS, clipped to the image and not empty.
        height, width: of the image.
        threshold: as ``detector_postprocess``'s mask_threshold.
    """
    return tuple(
        encode_crop(*paste_in_crop(mask, box, height, width, threshold), height, width)
        for mask, box in zip(masks, boxes)
    )
