"""Gives the samples of a TIFF page as they are, of any number of bands of 8 or 16 bits.

Only Pillow unpacks here, and it gives whole samples of grey pictures alone. So a TIFF of several
bands is read as grey pictures: each plane is one, or bands beside each other are one that is as
many times wider.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from d2serve.handlers.requests.formats import tiff
from d2serve.handlers.requests.formats.tiff import TiffPage

Samples = npt.NDArray[Any]
"""uint8 or uint16, as many bits as the page has."""

GREY_MODES = ("I;16", "I;16B", "I;16L")
"""Pillow's, of 16 bits."""

_MODES = {8: ("L",), 16: GREY_MODES}
_DIFFERENCES = 2  # of PREDICTOR
_ROWS_AT_ONCE = 256
# They pack bytes, whatever these mean: none, LZW, deflate (two numbers), PackBits, LZMA, Zstandard.
_OF_BYTES = (1, 5, 8, 32946, 32773, 34925, 50000)


def has_plain_samples(page: TiffPage) -> bool:
    """Whether the samples of a page can be had as they are: all of 8 bits or all of 16, packed by
    what knows nothing of pictures."""
    whole = set(page.tags.get(tiff.SAMPLE_FORMAT, (tiff.UNSIGNED,)))
    bits = set(page.tags.get(tiff.BITS, ()))
    return (
        bits in ({8}, {16})
        and whole <= {tiff.UNSIGNED, tiff.UNDEFINED}
        and page.one(tiff.COMPRESSION) in _OF_BYTES
    )


def rows_of(
    data: bytes, page: TiffPage, opened: Callable[[bytes], Image.Image]
) -> Iterator[tuple[int, Samples]]:
    """Some rows of a page at a time, and the number of the first.

    Args:
        data: the file.
        page: what it says.
        opened: opens a file with Pillow.

    Yields:
        (row, samples), the samples (rows, width, bands).

    Raises:
        Exception: of nearly any type, where the file is damaged.
    """
    width, height = page.size
    bands = page.bands
    starts = range(0, height, _ROWS_AT_ONCE)
    if page.in_planes and bands > 1:
        planes = [_grey(data, page, opened, plane) for plane in range(bands)]
        for y in starts:
            yield y, np.stack([each[y : y + _ROWS_AT_ONCE] for each in planes], axis=2)
    else:
        whole = _grey(data, page, opened).reshape(height, width, bands)
        for y in starts:
            yield y, whole[y : y + _ROWS_AT_ONCE]


def _grey(
    data: bytes, page: TiffPage, opened: Callable[[bytes], Image.Image], plane: int | None = None
) -> Samples:
    """The samples of a plane, or of all bands beside each other."""
    width, height = page.size
    bands = 1 if plane is not None else page.bands
    with opened(_as_grey_file(data, page, bands, plane)) as image:
        if image.mode not in _MODES[page.bits] or image.size != (width * bands, height):
            raise ValueError(f"a TIFF of {page.bits} bits that Pillow takes for {image.mode}")
        samples = np.asarray(image)
    if bands > 1 and page.one(tiff.PREDICTOR) == _DIFFERENCES:
        samples = _summed(samples.reshape(height, width, bands), page.one(tiff.TILE_WIDTH))
    return samples


def _summed(samples: Samples, tile_width: int) -> Samples:
    """Undo that each sample is written as its difference from the one to its left."""
    made = np.empty(samples.shape, samples.dtype.newbyteorder("="))
    width = samples.shape[1]
    for x in range(0, width, tile_width or width):
        tile = slice(x, x + (tile_width or width))
        np.add.accumulate(samples[:, tile], axis=1, dtype=made.dtype, out=made[:, tile])
    return made


def _as_grey_file(data: bytes, page: TiffPage, bands: int, plane: int | None) -> bytes:
    """The file with a directory at its end that tells of one grey picture in it."""
    pieces = {
        tag: _of_plane(page, tag, plane)
        for tag in (tiff.STRIP_OFFSETS, tiff.STRIP_SIZES, tiff.TILE_OFFSETS, tiff.TILE_SIZES)
    }
    as_they_are = (
        tiff.HEIGHT,
        tiff.COMPRESSION,
        tiff.FILL_ORDER,
        tiff.TILE_HEIGHT,
        tiff.ROWS_PER_STRIP,
    )
    tags = {
        **{tag: page.tags.get(tag, ()) for tag in as_they_are},
        **pieces,
        tiff.WIDTH: (page.one(tiff.WIDTH) * bands,),
        tiff.TILE_WIDTH: tuple(bands * each for each in page.tags.get(tiff.TILE_WIDTH, ())),
        tiff.BITS: (page.bits,),
        tiff.PHOTOMETRIC: (tiff.BLACK_IS_ZERO,),
        tiff.SAMPLES: (1,),
        tiff.PREDICTOR: (1 if bands > 1 else page.one(tiff.PREDICTOR),),
    }
    return _with_directory(data, page.order, {tag: each for tag, each in tags.items() if each})


def _of_plane(page: TiffPage, tag: int, plane: int | None) -> tuple[int, ...]:
    values = page.tags.get(tag, ())
    if plane is None:
        return values
    each = len(values) // page.bands
    return values[plane * each : (plane + 1) * each]


def _with_directory(data: bytes, order: str, tags: dict[int, tuple[int, ...]]) -> bytes:
    """A file whose header leads to a new directory; all other offsets stay what they are."""
    start = len(data) + len(data) % 2
    entries, beyond = [], start + 2 + 12 * len(tags) + 4
    arrays = []
    for tag in sorted(tags):
        values = np.array(tags[tag], order + "u4").tobytes()
        if len(values) > 4:
            arrays.append(values)
            values, beyond = struct.pack(order + "L", beyond), beyond + len(values)
        entries.append(struct.pack(order + "HHL", tag, 4, len(tags[tag])) + values)
    directory = struct.pack(order + "H", len(tags)) + b"".join(entries) + bytes(4)
    header = (b"II" if order == "<" else b"MM") + struct.pack(order + "HL", 42, start)
    return b"".join((header, data[8:], bytes(len(data) % 2), directory, *arrays))
