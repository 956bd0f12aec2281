"""Finds out how large the pictures in an AVIF file are, before any decoder takes memory for them.

The container says one size and the AV1 data another: libavif decodes what the data say, up to 268
megapixels, and scales it to what the container says. So the sizes are read from the data's own
sequence headers, of which each picture has one.

Sources: ISO/IEC 14496-12 (boxes, ``iloc``, ``iinf``), AV1 Bitstream Specification 5.3 to 5.5.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

_BRANDS = (b"avif", b"avis", b"mif1", b"msf1")
_MOST_BOXES = 10_000
_MOST_UNITS = 1000
_SEQUENCE_HEADER = 1


class Frames(NamedTuple):
    """What the AV1 data of a file may make a decoder unpack."""

    largest: tuple[int, int]
    """Width and height."""
    pixels: int
    """Of all pictures together: the tiles of one, its alpha, its thumbnails."""


def is_avif(data: bytes) -> bool:
    """Whether Pillow would try to read a file as AVIF."""
    brands = data[8:64]
    return (
        data[4:8] == b"ftyp" and data[8:12] in _BRANDS and (b"avif" in brands or b"avis" in brands)
    )


def frames_of(data: bytes) -> Frames:
    """The pictures of an AVIF file.

    Raises:
        ValueError: it is damaged, an animation, or of a kind that is not read.
    """
    try:
        return _frames(data)
    except (IndexError, KeyError, struct.error, OverflowError):
        raise ValueError("its boxes or its AV1 data are damaged or cut off") from None


def _frames(data: bytes) -> Frames:
    boxes = dict(_boxes(data, 0, len(data)))
    if b"moov" in boxes or b"mini" in boxes:
        raise ValueError("it is an animation or of the minimised kind: send one picture")
    if b"meta" not in boxes:
        raise ValueError("it has no picture")
    start, end = boxes[b"meta"]
    meta = dict(_boxes(data, start + 4, end))
    kinds, places = _kinds(data, *meta[b"iinf"]), _places(data, *meta[b"iloc"], meta.get(b"idat"))
    coded = [places[item] for item, kind in kinds.items() if kind == b"av01" and item in places]
    if sum(end - start for extents in coded for start, end in extents) > 2 * len(data):
        raise ValueError("its items are larger than the file")
    sizes = [size for extents in coded for size in _sizes(b"".join(data[a:b] for a, b in extents))]
    if not sizes:
        raise ValueError("it has no AV1 data")
    largest = max(sizes, key=lambda size: size[0] * size[1])
    return Frames(largest, sum(width * height for width, height in sizes))


def _boxes(data: bytes, at: int, end: int) -> Iterator[tuple[bytes, tuple[int, int]]]:
    """Each box's kind, and where its contents begin and end."""
    for _ in range(_MOST_BOXES):
        if at + 8 > end:
            return
        size, kind = struct.unpack_from(">L4s", data, at)
        start = at + 8
        if size == 1:
            size, start = struct.unpack_from(">Q", data, start)[0], start + 8
        after = end if size == 0 else at + size
        if not start <= after <= end:
            raise ValueError("a box of it is longer than the file")
        yield kind, (start, after)
        at = after
    raise ValueError("it has too many boxes")


def _kinds(data: bytes, start: int, end: int) -> dict[int, bytes]:
    """The items, by number: of ``iinf``, of whose entries version 2 and 3 say the kind."""
    kinds, version = {}, data[start]
    for kind, (at, _) in _boxes(data, start + (6 if version == 0 else 8), end):
        if kind != b"infe" or data[at] not in (2, 3):
            raise ValueError("it lists its items in an unknown way")
        item, form = (">H", at + 8) if data[at] == 2 else (">L", at + 10)
        kinds[struct.unpack_from(item, data, at + 4)[0]] = data[form : form + 4]
    return kinds


def _places(
    data: bytes, start: int, _end: int, idat: tuple[int, int] | None
) -> dict[int, list[tuple[int, int]]]:
    """Where the items' bytes lie: of ``iloc``."""
    version, sizes, at = data[start], struct.unpack_from(">H", data, start + 4)[0], start + 6
    widths = [sizes >> shift & 15 for shift in (12, 8, 4, 0)]
    offset_size, length_size, base_size, index_size = widths
    if version == 0:
        index_size = 0

    def number(size: int) -> int:
        nonlocal at
        if at + size > len(data):
            raise IndexError
        at += size
        return int.from_bytes(data[at - size : at], "big")

    wide = 4 if version == 2 else 2
    places: dict[int, list[tuple[int, int]]] = {}
    pieces = 0
    for _ in range(number(wide)):
        item, method = number(wide), number(2) & 15 if version else 0
        number(2)  # the file that holds it, which is this one
        base, extents = number(base_size), []
        for _ in range(number(2)):
            number(index_size)
            offset, length = base + number(offset_size), number(length_size)
            begin, end = (0, len(data)) if method == 0 or idat is None else idat
            last = end if length == 0 else begin + offset + length
            extents.append((begin + offset, max(begin + offset, min(last, end))))
            pieces += 1
            if pieces > _MOST_BOXES:
                raise ValueError("it is in too many pieces")
        if method > 1 or (method == 1 and idat is None):
            raise ValueError("its items lie in an unknown place")
        places[item] = extents
    return places


def _sizes(units: bytes) -> Iterator[tuple[int, int]]:
    """Width and height of the largest frame that each sequence header permits."""
    at = 0
    for _ in range(_MOST_UNITS):
        if at >= len(units):
            return
        head = units[at]
        at += 2 if head & 4 else 1
        size, at = _leb128(units, at) if head & 2 else (len(units) - at, at)
        if head >> 3 & 15 == _SEQUENCE_HEADER:
            yield _sequence_size(units[at : at + size])
        at += size
    raise ValueError("its AV1 data are in too many pieces")


def _leb128(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for i in range(8):
        value |= (data[at + i] & 127) << 7 * i
        if not data[at + i] & 128:
            return value, at + i + 1
    raise ValueError("its AV1 data are damaged")


class _Bits:
    def __init__(self, data: bytes) -> None:
        self._value, self._left = int.from_bytes(data[:64], "big"), 8 * min(len(data), 64)

    def __call__(self, count: int) -> int:
        if count > self._left:
            raise IndexError
        self._left -= count
        return self._value >> self._left & ((1 << count) - 1)


def _sequence_size(header: bytes) -> tuple[int, int]:
    """Of ``sequence_header_obu``: where frames may say other sizes, the largest that they can."""
    bits = _Bits(header)
    bits(3 + 1)  # seq_profile, still_picture
    reduced = bits(1)
    if reduced:
        bits(5)  # seq_level_idx
    else:
        _skip_operating_points(bits)
    width_bits, height_bits = bits(4) + 1, bits(4) + 1
    width, height = bits(width_bits) + 1, bits(height_bits) + 1
    return (width, height) if reduced else (1 << width_bits, 1 << height_bits)


def _skip_operating_points(bits: _Bits) -> None:
    decoder_model, delay_bits = 0, 0
    if bits(1):  # timing_info_present_flag
        bits(32), bits(32)
        if bits(1):  # equal_picture_interval
            zeros = 0
            while not bits(1):
                zeros += 1
            bits(zeros)
        decoder_model = bits(1)
        if decoder_model:
            delay_bits = bits(5) + 1
            bits(32), bits(5 + 5)
    display_delay = bits(1)
    for _ in range(bits(5) + 1):
        bits(12)  # operating_point_idc
        if bits(5) > 7:  # seq_level_idx
            bits(1)
        if decoder_model and bits(1):
            bits(2 * delay_bits + 1)
        if display_delay and bits(1):
            bits(4)
