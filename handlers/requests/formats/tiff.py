"""Reads what the first page of a TIFF file says of itself, without decoding any of it.

Pillow knows some kinds of TIFF, takes others for something else, and says nothing of the rest. The
tags say which kind it is, and whether the page is the photo or the thumbnail of a raw one.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

NEW_SUBFILE_TYPE, WIDTH, HEIGHT, BITS, COMPRESSION = 254, 256, 257, 258, 259
PHOTOMETRIC, FILL_ORDER, STRIP_OFFSETS, ORIENTATION, SAMPLES = 262, 266, 273, 274, 277
ROWS_PER_STRIP, STRIP_SIZES, PLANES, PREDICTOR = 278, 279, 284, 317
TILE_WIDTH, TILE_HEIGHT, TILE_OFFSETS, TILE_SIZES = 322, 323, 324, 325
SUB_IFDS, EXTRA_SAMPLES, SAMPLE_FORMAT, DNG_VERSION = 330, 338, 339, 50706

STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+", b"II\0*", b"MM*\0")
"""Of a file; of the last two the mark's bytes are turned round, which Pillow reads."""

_TAGS = {
    *(NEW_SUBFILE_TYPE, WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, FILL_ORDER, STRIP_OFFSETS),
    *(ORIENTATION, SAMPLES, ROWS_PER_STRIP, STRIP_SIZES, PLANES, PREDICTOR, TILE_WIDTH),
    *(TILE_HEIGHT, TILE_OFFSETS, TILE_SIZES, SUB_IFDS, EXTRA_SAMPLES, SAMPLE_FORMAT, DNG_VERSION),
}
_DEFAULTS = {
    NEW_SUBFILE_TYPE: 0,
    BITS: 1,
    COMPRESSION: 1,
    FILL_ORDER: 1,
    ORIENTATION: 1,
    SAMPLES: 1,
    PLANES: 1,
    PREDICTOR: 1,
    SAMPLE_FORMAT: 1,
}

WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, CFA, LINEAR_RAW = 0, 1, 2, 32803, 34892
"""Of PHOTOMETRIC."""
UNSIGNED, SIGNED, FLOAT, UNDEFINED = 1, 2, 3, 4
"""Of SAMPLE_FORMAT."""
UNASSOCIATED = 2
"""Of EXTRA_SAMPLES: an alpha by which the colours are not multiplied."""

_WHOLE = {1: "u1", 3: "u2", 4: "u4", 13: "u4", 16: "u8", 18: "u8"}
"""numpy's type of a value, by TIFF's number of its type; of others no values are read."""
_MOST_ENTRIES = 4096
_PIECES = {STRIP_OFFSETS, STRIP_SIZES, TILE_OFFSETS, TILE_SIZES}
_MOST_PIECES, _MOST_VALUES = 1_000_000, 1024


@dataclass(frozen=True, eq=False)
class TiffPage:
    """The first page of a TIFF file."""

    order: str
    """``"<"`` or ``">"``, of bytes."""
    tags: Mapping[int, tuple[int, ...]]
    """Values by tag; of types that hold no whole numbers, none."""
    has_next: bool
    """Whether another page follows."""
    is_whole: bool
    """Whether the file has room for all of its tags."""
    is_cr2: bool
    """Whether the header is that of Canon's raw files."""

    def one(self, tag: int) -> int:
        """The value of a tag, or its default."""
        values = self.tags.get(tag)
        return values[0] if values else _DEFAULTS.get(tag, 0)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels, the orientation not applied."""
        return self.one(WIDTH), self.one(HEIGHT)

    @property
    def bits(self) -> int:
        """Of a sample; the most where they differ."""
        return max(self.tags.get(BITS) or (1,))

    @property
    def bands(self) -> int:
        """Samples of a pixel."""
        return self.one(SAMPLES)

    @property
    def in_planes(self) -> bool:
        """Whether each band lies by itself."""
        return self.one(PLANES) == 2

    @property
    def is_raw_photo(self) -> bool:
        """Whether it is a camera's raw file, or the thumbnail of a picture elsewhere in the file.

        Cameras put a small picture first, and say so; what the sensor saw lies behind it.
        """
        elsewhere = self.has_next or SUB_IFDS in self.tags
        reduced = bool(self.one(NEW_SUBFILE_TYPE) & 1)
        of_a_sensor = self.one(PHOTOMETRIC) in (CFA, LINEAR_RAW)
        marked = self.is_cr2 or DNG_VERSION in self.tags or of_a_sensor
        return marked or (reduced and elsewhere)

    @property
    def described(self) -> str:
        """Its kind in a few words."""
        bands, bits = self.bands, self.bits
        kinds = {SIGNED: "signed ", FLOAT: "floating-point "}
        kind = kinds.get(self.one(SAMPLE_FORMAT), "")
        lying = ", in planes" if self.in_planes and bands > 1 else ""
        counted = "1 band" if bands == 1 else f"{bands} bands"
        return f"a TIFF with {counted} of {kind}{bits} bits{lying}"


def first_page(data: bytes) -> TiffPage | None:
    """What the first page of a TIFF file says; None of what is none, or is damaged."""
    if not data.startswith(STARTS):
        return None
    order = "<" if data.startswith(b"II") else ">"
    big = b"+" in data[2:4]
    head, entry, link = (order + each for each in (("Q", "HHQ", "Q") if big else ("H", "HHL", "L")))
    inline, step = (8, 20) if big else (4, 12)
    places: dict[int, tuple[int, int, int]] = {}
    try:
        at = struct.unpack_from(link, data, 8 if big else 4)[0]
        entries = struct.unpack_from(head, data, at)[0]
        at += struct.calcsize(head)
        for i in range(min(entries, _MOST_ENTRIES, (len(data) - at) // step)):
            tag, kind, count = struct.unpack_from(entry, data, at + i * step)
            if tag in _TAGS:  # of one that is there twice the last counts, as with Pillow
                places[tag] = kind, count, at + (i + 1) * step - inline
        next_at = at + entries * step
        has_next = next_at + inline <= len(data) and struct.unpack_from(link, data, next_at)[0] > 0
        tags = {tag: _values(data, order, tag, *each, link) for tag, each in places.items()}
    except (struct.error, OverflowError):
        return None
    return TiffPage(order, tags, has_next, next_at <= len(data), data[8:10] == b"CR")


def _values(
    data: bytes, order: str, tag: int, kind: int, count: int, place: int, link: str
) -> tuple[int, ...]:
    most = _MOST_PIECES if tag in _PIECES else _MOST_VALUES
    if kind not in _WHOLE or not 0 < count <= most:
        return ()
    dtype = np.dtype(order + _WHOLE[kind])
    if count * dtype.itemsize > struct.calcsize(link):
        place = struct.unpack_from(link, data, place)[0]
    if place + count * dtype.itemsize > len(data):
        return ()
    return tuple(np.frombuffer(data, dtype, count, place).tolist())
