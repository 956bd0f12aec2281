"""Traces the outlines of masks as COCO's polygons, which some tools take only, without opencv.

A polygon follows the edges between pixels, from corner to corner, so that filling it gives exactly
the pixels of the mask; holes are filled, as COCO's polygons have none. Pieces that touch at a
corner only are polygons of their own, and the smallest is kept.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from d2serve.handlers.outputs.rle import Rle, decode_mask

Polygon = list[int]
"""x0, y0, x1, y1, ... in pixels; pixel (x, y) reaches from x to x + 1 and from y to y + 1."""

# By which of the four pixels around a point are set: 1 north-west, 2 north-east, 4 south-west,
# 8 south-east.
_IS_CORNER = np.isin(np.arange(16), (1, 2, 4, 6, 7, 8, 9, 11, 13, 14))
_NORTH_EAST_AND_SOUTH_WEST, _NORTH_WEST_AND_SOUTH_EAST = 6, 9
_SOUTH_EAST = 8


def to_polygons(rle: Rle) -> list[Polygon]:
    """The outer contours of a mask, from top to bottom."""
    mask, left = decode_mask(rle)
    return contours(mask, left)


def contours(mask: npt.NDArray[np.bool_], left: int = 0) -> list[Polygon]:
    """The outer contours of a mask.

    A line through the grid of points between pixels crosses the edges of the mask in pairs of
    corners: along each row the first corner goes with the second, the third with the fourth, and
    likewise down each column. Following the two kinds of pairs in turn leads around a contour.

    Args:
        mask: (H, W).
        left: the column of the image at which the mask starts.
    """
    padded = np.pad(mask, 1).view(np.uint8)
    around = padded[:-1, :-1] | padded[:-1, 1:] << 1 | padded[1:, :-1] << 2 | padded[1:, 1:] << 3
    y, x = np.nonzero(_IS_CORNER[around])
    if not len(y):
        return []
    kinds = around[y, x]
    # Where two pixels touch at a corner, it is the corner of both: the first copy is that to the
    # west, which is to the north as well or, of the other kind, to the south.
    shared = (kinds == _NORTH_EAST_AND_SOUTH_WEST) | (kinds == _NORTH_WEST_AND_SOUTH_EAST)
    source = np.repeat(np.arange(len(y)), 1 + shared)
    second = np.zeros(len(source), np.bool_)
    second[1:] = source[1:] == source[:-1]
    y, x, kinds = y[source], x[source], kinds[source]
    to_the_south = second ^ (shared[source] & (kinds == _NORTH_EAST_AND_SOUTH_WEST))
    columns = np.lexsort((to_the_south, y, x))
    down = np.empty(len(y), np.intp)
    down[columns[0::2]], down[columns[1::2]] = columns[1::2], columns[0::2]
    return _followed(down.tolist(), (x + left).tolist(), y.tolist(), kinds.tolist())


def _followed(down: list[int], x: list[int], y: list[int], kinds: list[int]) -> list[Polygon]:
    polygons: list[Polygon] = []
    seen = bytearray(len(down))
    for start in range(len(down)):
        if seen[start]:
            continue
        polygon: Polygon = []
        at = start
        while not seen[at]:
            along = at ^ 1  # corners are in the order of rows
            seen[at] = seen[along] = 1
            polygon += (x[at], y[at], x[along], y[along])
            at = down[along]
        # Its upper left corner: the inside of a hole is no part of the mask.
        if kinds[start] & _SOUTH_EAST:
            polygons.append(polygon)
    return polygons
