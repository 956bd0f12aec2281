"""Gives all bands of a TIFF file as they are, whatever the file says that they mean.

Software for satellite images writes four bands as "grey, and three more", which Pillow does not
open, or as "RGB, and one more", of which Pillow drops the fourth; more it does not know at all.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from PIL import Image

from d2serve.handlers.requests.formats import tiff
from d2serve.handlers.requests.formats.tiff import TiffPage
from d2serve.handlers.requests.formats.tiff_samples import has_plain_samples, rows_of

Pixels = npt.NDArray[np.uint8]

_PALETTE = 3  # of PHOTOMETRIC
# What makes a picture upright, by TIFF's orientation.
_UPRIGHT: dict[int, Callable[[Pixels], Pixels]] = {
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.swapaxes(0, 1),
    6: lambda pixels: np.rot90(pixels, 3),
    7: lambda pixels: pixels[::-1, ::-1].swapaxes(0, 1),
    8: lambda pixels: np.rot90(pixels),
}


def is_of_bands(page: TiffPage) -> bool:
    """Whether a page's bands can be read by ``read_bands``; indices into a palette are none."""
    return page.bands > 1 and has_plain_samples(page) and page.one(tiff.PHOTOMETRIC) != _PALETTE


def read_bands(data: bytes, page: TiffPage, opened: Callable[[bytes], Image.Image]) -> Pixels:
    """The first page of a TIFF of which ``is_of_bands``, upright; of 16 bits the upper bytes.

    Args:
        data: the file.
        page: what it says.
        opened: opens a file with Pillow.

    Returns:
        (H, W, bands) uint8.

    Raises:
        Exception: of nearly any type, where the file is damaged.
    """
    width, height = page.size
    pixels = np.empty((height, width, page.bands), np.uint8)
    for y, rows in rows_of(data, page, opened):
        pixels[y : y + len(rows)] = rows if page.bits == 8 else rows >> 8
    upright = _UPRIGHT.get(page.one(tiff.ORIENTATION))
    return pixels if upright is None else np.ascontiguousarray(upright(pixels))
