"""Masks as COCO's polygons, for tools that take nothing else, and the way back to an array.

The polygons run along the edges between pixels, so that filling them gives the pixels of the mask;
only its holes are filled as well, since COCO's polygons have none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from d2serve.client.results.reply_fields import typed
from d2serve.handlers.outputs.rle import Rle

Polygon = tuple[float, ...]
"""x0, y0, x1, y1, … in pixels."""

_LEAST_NUMBERS = 6  # of a triangle; of four pycocotools would make a box


@dataclass(frozen=True)
class PolygonMask:
    """A binary mask as the outlines of its pieces."""

    height: int
    width: int
    polygons: tuple[Polygon, ...]
    """None of them where the mask has no pixel."""

    def decode(self) -> NDArray[np.bool_]:
        """The mask as a boolean array of shape (height, width), its holes filled."""
        return np.asarray(coco_mask.decode(self.rle()), dtype=np.bool_)

    def area(self) -> int:
        """Number of pixels in the mask, its holes filled."""
        return int(coco_mask.area(self.rle()))

    def rle(self) -> Rle:
        """The mask, its holes filled, in COCO's compressed run-length encoding."""
        size = [self.height, self.width]
        if self.polygons:
            polygons = [list(polygon) for polygon in self.polygons]
            encoded = coco_mask.merge(coco_mask.frPyObjects(polygons, *size))
        else:
            encoded = coco_mask.encode(np.zeros(size, np.uint8, order="F"))
        return {"size": size, "counts": encoded["counts"].decode("ascii")}


def parse_polygon_mask(value: Any, image: tuple[int, int]) -> PolygonMask:
    """A mask of an image of this (height, width), from COCO's list of polygons."""
    polygons = tuple(_polygon(each, image) for each in typed(value, list, "segmentation"))
    return PolygonMask(height=image[0], width=image[1], polygons=polygons)


def _polygon(value: Any, image: tuple[int, int]) -> Polygon:
    numbers = [float(typed(n, (int, float), "polygon")) for n in typed(value, list, "polygon")]
    if len(numbers) < _LEAST_NUMBERS or len(numbers) % 2:
        raise ValueError(
            f"a polygon has {len(numbers)} numbers, not x and y of three points or more"
        )
    height, width = image
    # Far outside, pycocotools would walk for hours, or out of its memory.
    inside = all(0 <= x <= width for x in numbers[::2]) and all(
        0 <= y <= height for y in numbers[1::2]
    )
    if not inside:
        raise ValueError(f"a polygon leaves the image of {width} x {height} pixels")
    return tuple(numbers)
