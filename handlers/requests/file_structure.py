"""Finds out how much work it is to decode an image file, before any of it is done.

A file of a few kilobytes may declare hours of work: Pillow walks through a file's pieces one by
one, in Python, and libjpeg goes over the whole picture for each scan, however short. Here the
pieces are counted in the bytes alone, in a bounded number of steps. What is damaged or of another
format counts as one picture: the decoder will judge it.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

# Far above what software writes: 50 megapixels in TIFF tiles of 16 x 16 are 200,000, a PNG of 32 MB
# has 4,000 chunks, a GIF of 32 MB 130,000 blocks, a JPEG some hundred segments.
_MAX_TILES = 250_000
_MAX_DIRECTORY = 4096
_MAX_CHUNKS = 100_000
_MAX_BLOCKS = 500_000
_MAX_SEGMENTS = 10_000

_TIFF_TILES = (273, 324)  # StripOffsets, TileOffsets
# Bytes of a value, by TIFF's number of its type. Values of other types are not read.
_TIFF_BYTES = {
    1: 1,
    2: 1,
    3: 2,
    4: 4,
    5: 8,
    6: 1,
    7: 1,
    8: 2,
    9: 4,
    10: 8,
    11: 4,
    12: 8,
    13: 4,
    16: 8,
}


class FileStructure(NamedTuple):
    """What a file's bytes declare of the work that decoding it makes."""

    frames: int = 1
    """Of a GIF or TIFF file; never more than one above the bound that was given."""
    scans: int = 1
    """Of a JPEG file: passes over the whole picture."""
    fragmented: bool = False
    """In so many pieces that they would take longer than the pixels."""
    canvas: tuple[int, int] | None = None
    """Width and height of a WebP file, whose decoder takes memory for them when it opens it."""


def structure_of(data: bytes, most_frames: int) -> FileStructure:
    """What a file declares, counting frames up to ``most_frames`` and one more."""
    try:
        if data.startswith(b"\xff\xd8"):
            return _jpeg(data)
        if data.startswith(b"\x89PNG"):
            return _png(data)
        if data.startswith(b"GIF8"):
            return _gif(data, most_frames)
        if data[:2] in (b"II", b"MM"):
            return _tiff(data, most_frames)
        if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
            return _webp(data)
    except (IndexError, struct.error, OverflowError):  # it ends, or points outside itself
        pass
    return FileStructure()


def _jpeg(data: bytes) -> FileStructure:
    at, components = 2, 0
    for _ in range(_MAX_SEGMENTS):
        marker = data[at + 1]
        if data[at] != 0xFF:
            return FileStructure()
        if marker == 0xDA:
            break
        if marker in (0x00, 0xFF):  # filling
            at += 1
            continue
        if marker in (0xC0, 0xC1):  # the only frames of one scan
            components = data[at + 9]
        at += 2
        if not 0xD0 <= marker <= 0xD8:
            at += struct.unpack_from(">H", data, at)[0]
    else:
        return FileStructure(fragmented=True)
    if components == data[at + 4]:
        return FileStructure()  # all in this scan, after which libjpeg stops
    # What is entropy-coded has no such pair of bytes; a thumbnail has one and adds one.
    return FileStructure(scans=data.count(b"\xff\xda"))


def _png(data: bytes) -> FileStructure:
    at = 8
    for _ in range(_MAX_CHUNKS):
        at += 12 + struct.unpack_from(">L", data, at)[0]
        if at >= len(data):
            return FileStructure()
    return FileStructure(fragmented=True)


def _gif(data: bytes, most_frames: int) -> FileStructure:
    frames, blocks = 0, 0
    try:
        at = 13 + _colour_bytes(data[10])
        while frames <= most_frames:
            kind = data[at]
            if kind == 0x2C:  # a frame
                frames += 1
                at += 11 + _colour_bytes(data[at + 9])
            else:  # an extension, or a byte that Pillow skips
                at += 2 if kind == 0x21 else 1
            blocks += 1
            while kind in (0x21, 0x2C) and data[at]:
                at += data[at] + 1
                blocks += 1
                if blocks > _MAX_BLOCKS:
                    break
            if blocks > _MAX_BLOCKS:
                return FileStructure(frames, fragmented=True)
            at += kind in (0x21, 0x2C)
    except IndexError:
        pass
    return FileStructure(frames)


def _colour_bytes(flags: int) -> int:
    """Of the colour table that a GIF's flags declare."""
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0


def _tiff(data: bytes, most_frames: int) -> FileStructure:
    order = "<" if data.startswith(b"II") else ">"
    big = struct.unpack_from(order + "H", data, 2)[0] == 43
    head, entry, link = (order + each for each in (("Q", "HHQ", "Q") if big else ("H", "HHL", "L")))
    start, step = (8, 20) if big else (2, 12)
    pages = 0
    try:
        at = struct.unpack_from(link, data, 8 if big else 4)[0]
        while at and pages <= most_frames:
            entries = struct.unpack_from(head, data, at)[0]
            at += start
            # What the file has no room for is not there, whatever a damaged count says.
            there = min(entries, (len(data) - at) // step)
            if there > _MAX_DIRECTORY:
                return FileStructure(pages, fragmented=True)
            for i in range(0 if pages else there):
                tag, kind, count = struct.unpack_from(entry, data, at + i * step)
                # More values than the file has room for are not there: Pillow skips them.
                most = len(data) // _TIFF_BYTES.get(kind, len(data) + 1)
                if tag in _TIFF_TILES and _MAX_TILES < count <= most:
                    return FileStructure(pages, fragmented=True)
            pages += 1
            at = struct.unpack_from(link, data, at + entries * step)[0]
    except (struct.error, OverflowError):
        pass
    return FileStructure(pages)


def _webp(data: bytes) -> FileStructure:
    """Where the size stands, the first chunk's kind says: RFC 9649; of VP8, RFC 6386, 9.1."""
    kind = data[12:16]
    if kind == b"VP8X":
        width, height = (int.from_bytes(data[at : at + 3], "little") for at in (24, 27))
        return FileStructure(canvas=(width + 1, height + 1))
    if kind == b"VP8L":
        bits = struct.unpack_from("<L", data, 21)[0]
        return FileStructure(canvas=((bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1))
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        return FileStructure(canvas=(width & 0x3FFF, height & 0x3FFF))
    return FileStructure()
