"""Encodes ROI masks as COCO RLEs of the whole image, without pasting them into one.

Pasting each mask into a full image and encoding that image costs more than the network.
Down a column of the image a pasted mask is linear between the centres of two neighbouring cells. So
each column is worked out at those centres only, and where two of them lie on both sides of the
threshold, the first pixel on the other side is where a run of the COCO RLE starts or ends. Time and
memory grow with the widths of the boxes, not with the area of the boxes or of the image.

The result equals ``paste_masks_in_image`` followed by ``pycocotools.mask.encode`` bit for bit: a
pixel so near the threshold that rounding decides is computed in the order of operations of
PyTorch's ``grid_sample`` (aten/src/ATen/native/cpu/GridSamplerKernel.cpp). That holds where PyTorch
runs its kernels with fused multiply-add (AVX2 and AVX-512); those for other CPUs round otherwise,
so the tests leave the comparison out there (``ATEN_CPU_CAPABILITY=default``).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from d2serve.handlers.outputs.rle import Int64, Rle, encode_transitions

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]

# Two orders of float32 arithmetic on weights in [0, 1] differ by about 1e-6 at most.
_ROUNDING = np.float32(4e-6)

# Zero cells before a mask; two follow it, so that every pixel has two neighbours.
_BORDER = 1

# Columns worked on at once: enough to hide the cost of a numpy call, few enough to bound the
# memory (some 20 MB with masks of 28 x 28).
_COLUMNS_AT_ONCE = 16384

# Doubtful pixels worked on at once. There are few, unless a mask is flat at the threshold.
_PIXELS_AT_ONCE = 1 << 16


class _Axis:
    """How one axis of the crops samples their masks: ``_do_paste_mask`` in one dimension.

    The pixels of all the crops stand in one row, (P,), crop after crop.
    """

    def __init__(self, low: Float32, high: Float32, length: int, cells: int, guard: int) -> None:
        one, half = np.float32(1), np.float32(0.5)
        self.start: Int64 = np.maximum(np.floor(low).astype(np.int64) - 1, 0)
        stop = np.minimum(np.ceil(high).astype(np.int64) + 1, length)
        self.stop: Int64 = np.maximum(stop, self.start)
        sizes = self.stop - self.start + 2 * guard
        self.offset: Int64 = np.cumsum(sizes) - sizes + guard - self.start
        """(N,) what a pixel's number in the image is away from its place in the row."""
        self.mask: Int64 = np.repeat(np.arange(len(low)), sizes)
        self.pixel: Int64 = np.arange(len(self.mask)) - np.repeat(self.offset, sizes)
        centres = self.pixel.astype(np.float32) + half
        with np.errstate(over="ignore"):  # a box narrower than 1e-30 pixels sends them to infinity
            from_low = (centres - np.repeat(low, sizes)) / np.repeat(high - low, sizes)
            normalised = from_low * np.float32(2) - one
            position = _fma(normalised + one, np.float32(cells / 2), -half)
        # Beyond the mask everything is zero, however far.
        self.position: Float32 = np.clip(position, np.float32(-1), np.float32(cells))
        """Place between the centres of the mask's cells, the first of which is at 0."""
        floor = np.floor(self.position)
        self.upper: Float32 = self.position - floor
        self.lower: Float32 = one - self.upper
        self.cell: Int64 = floor.astype(np.int64) + _BORDER
        """Index into the bordered mask of the neighbour that ``lower`` weighs."""


class _Rows(_Axis):
    """The rows of the crops, and the way back from a position to a row."""

    def __init__(self, low: Float32, high: Float32, length: int, cells: int) -> None:
        super().__init__(low, high, length, cells, guard=1)
        self._scale = (high - low).astype(np.float64) / cells
        self._zero = low.astype(np.float64) + 0.5 * self._scale - 0.5
        # No position is before the guard that precedes a crop or behind the one that follows it.
        self.position[self.start - 1 + self.offset] = -np.inf
        self.position[self.stop + self.offset] = np.inf

    def near(self, in_mask: Int64, position: Float64) -> Int64:
        """The first row from a position on, but for rounding.

        The positions are those of the first mask, then those of the second, ...; ``in_mask`` (N,)
        says how many of each.
        """
        row = position * np.repeat(self._scale, in_mask)
        row += np.repeat(self._zero, in_mask)
        row = np.ceil(row, out=row).astype(np.int64)
        np.maximum(row, np.repeat(self.start, in_mask), out=row)
        return np.minimum(row, np.repeat(self.stop, in_mask), out=row)

    def first_from(self, masks: Int64, position: Float64) -> Int64:
        """The first row from a position on, to the last bit of the row's own position."""
        row = self.near(np.bincount(masks, minlength=len(self.start)), position)
        place = row + self.offset[masks]
        row -= self.position[place - 1] >= position
        row += self.position[place] < position
        return row


def _fma(
    a: npt.NDArray[np.float32], b: npt.NDArray[np.float32] | np.float32, c: Float32 | np.float32
) -> Float32:
    # The product of two float32 is exact in float64, so only the final rounding remains.
    exact = a.astype(np.float64) * np.asarray(b, np.float64) + np.asarray(c, np.float64)
    return exact.astype(np.float32)


def encode_masks(
    masks: Float32, boxes: Float32, height: int, width: int, threshold: float
) -> tuple[Rle, ...]:
    """COCO RLEs of ROI masks pasted into the image.

    Args:
        masks: (N, M, M) probabilities.
        boxes: (N, 4) XYXY_ABS, clipped to the image and not empty.
        height, width: of the image, in pixels.
        threshold: above 0; a pixel is set when its probability is at least this, as with
            ``detector_postprocess``'s mask_threshold.
    """
    rles: list[Rle] = []
    columns = np.cumsum(boxes[:, 2] - boxes[:, 0])
    cuts = np.flatnonzero(np.diff(columns // _COLUMNS_AT_ONCE)) + 1
    for some in np.split(np.arange(len(boxes)), cuts):
        if len(some):
            pasted = _Pasted(masks[some], boxes[some], height, width, np.float32(threshold))
            rles.extend(encode_transitions(pasted.transitions(), len(some), height, width))
    return tuple(rles)


class _Pasted:
    """Some masks on their way into the image."""

    def __init__(
        self, masks: Float32, boxes: Float32, height: int, width: int, threshold: np.float32
    ) -> None:
        count, cells = masks.shape[:2]
        self.columns = _Axis(boxes[:, 0], boxes[:, 2], width, cells, guard=0)
        self.rows = _Rows(boxes[:, 1], boxes[:, 3], height, cells)
        self.threshold = threshold
        self.bordered = np.zeros((count, cells + 3, cells + 3), np.float32)
        inside = slice(_BORDER, _BORDER + cells)
        self.bordered[:, inside, inside] = masks
        self.knots = cells + 2
        """In a column: the centres of the cells and, on either side, one that is zero."""
        self.first_knot = (np.searchsorted(self.columns.mask, np.arange(count))) * self.knots
        """(N,) of each mask, with the knots of all columns in a row."""
        self.first_transition = (
            self.columns.mask * (height * width + 1) + self.columns.pixel * height
        )
        """(columns,) what encode_transitions calls a column's first pixel."""

    def transitions(self) -> Int64:
        """The masks as encode_transitions takes them."""
        knots = self._knots().ravel()
        inside = (knots >= 0).view(np.uint8)
        # No column starts or ends inside, so there is no change from one to the next.
        changes = np.flatnonzero((inside[1:] ^ inside[:-1]).view(np.bool_))
        column = changes // self.knots
        before = knots[changes]
        gap = before - knots[changes + 1]
        with np.errstate(invalid="ignore"):  # NaN changes at the end of its stretch
            share = np.fmin(before / gap, np.float32(1))
        position = (changes - column * self.knots - _BORDER) + share
        bounds = np.searchsorted(changes, self.first_knot)
        in_mask = np.diff(bounds, append=len(changes))
        row = self.rows.near(in_mask, position)
        transitions: Int64 = self.first_transition[column] + row

        place = row + np.repeat(self.rows.offset, in_mask)
        slack = (_ROUNDING / np.abs(gap)).astype(np.float64)
        certain = self.rows.position[place - 1] < position - slack
        certain &= self.rows.position[place] > position + slack
        doubtful = np.abs(knots, out=knots) <= _ROUNDING
        doubtful[:-1] |= doubtful[1:]  # what lies on either side of such a knot
        doubtful[changes[~certain]] = True
        wrong = [
            self._wrong(transitions, *some) for some in self._portions(np.flatnonzero(doubtful))
        ]
        if not wrong:
            return transitions
        corrections = np.sort(np.concatenate([*wrong, *(pixels + 1 for pixels in wrong)]))
        corrected: Int64 = np.insert(
            transitions, np.searchsorted(transitions, corrections), corrections
        )
        return corrected

    def _knots(self) -> Float32:
        """(columns, M + 2) probability less threshold at the centres of a column's cells."""
        count, cells = self.bordered.shape[:2]
        table = self.bordered.transpose(0, 2, 1)[:, :, : self.knots] - self.threshold
        table = table.reshape(count * cells, self.knots)
        west = self.columns.mask * cells + self.columns.cell
        knots: Float32 = table.take(west, axis=0)
        knots *= self.columns.lower[:, None]
        east = table.take(west + 1, axis=0)
        east *= self.columns.upper[:, None]
        knots += east
        return knots

    def _portions(self, stretches: Int64) -> Iterator[tuple[Int64, Int64]]:
        """Columns and rows of the pixels that follow knots, some at a time."""
        column, knot = np.divmod(stretches, self.knots)
        masks = self.columns.mask[column]
        top = self.rows.first_from(masks, knot - float(_BORDER))
        sizes = self.rows.first_from(masks, knot + 1 - float(_BORDER)) - top
        ends = np.cumsum(sizes)
        cuts = np.flatnonzero(np.diff(ends // _PIXELS_AT_ONCE)) + 1
        for some in np.split(np.arange(len(stretches)), cuts):
            if len(some):
                up_to_here = ends[some] - sizes[some]
                first = np.repeat(top[some] - up_to_here + up_to_here[0], sizes[some])
                yield np.repeat(column[some], sizes[some]), first + np.arange(len(first))

    def _wrong(self, transitions: Int64, column: Int64, row: Int64) -> Int64:
        """Those of some pixels at which the transitions give another value than grid_sample."""
        places = self.first_transition[column] + row
        assumed = np.searchsorted(transitions, places, side="right") % 2 == 1
        right = self._as_grid_sample(column, row) >= self.threshold
        wrong: Int64 = places[assumed != right]
        return wrong

    def _as_grid_sample(self, column: Int64, row: Int64) -> Float32:
        masks = self.columns.mask[column]
        row = row + self.rows.offset[masks]
        y, x = self.rows.cell[row], self.columns.cell[column]
        south, north = self.rows.lower[row], self.rows.upper[row]
        east, west = self.columns.lower[column], self.columns.upper[column]
        total = self.bordered[masks, y, x] * (south * east)
        total = _fma(self.bordered[masks, y, x + 1], south * west, total)
        total = _fma(self.bordered[masks, y + 1, x], north * east, total)
        return _fma(self.bordered[masks, y + 1, x + 1], north * west, total)
