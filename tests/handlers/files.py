"""Image files written by hand, for the kinds that Pillow does not write."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from tests.handlers.samples import picture, saved

_SIZES = {1: "B", 3: "H", 4: "L", 16: "Q"}


def png(
    width: int, height: int, depth: int, colour: int, rows: bytes, *chunks: tuple[bytes, bytes]
) -> bytes:
    """A PNG with chunks after its header."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in (
            (b"IHDR", header),
            *chunks,
            (b"IDAT", zlib.compress(rows)),
            (b"IEND", b""),
        )
    )


def png_of(samples: NDArray[np.uint16]) -> bytes:
    """A PNG of 16 bits, of (H, W, bands) samples."""
    height, width, bands = samples.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)
    return png(width, height, 16, {1: 0, 2: 4, 3: 2, 4: 6}[bands], rows)


def tiff_of(
    samples: NDArray[np.generic],
    *,
    order: str = "<",
    planar: bool = False,
    deflated: bool = False,
    differences: bool = False,
    tile: tuple[int, int] | None = None,
    rows: int | None = None,
    big: bool = False,
    tags: Mapping[int, Sequence[int]] | None = None,
) -> bytes:
    """A TIFF of (H, W, bands) samples.

    Args:
        samples: of any type that numpy has.
        order: of bytes.
        planar: each band by itself.
        deflated: compressed.
        differences: of neighbours, as predictor 2 has them.
        tile: height and width.
        rows: of a strip; all without it.
        big: a BigTIFF.
        tags: further ones, or other values.
    """
    height, width, bands = samples.shape
    kind = {"u": 1, "i": 2, "f": 3}[samples.dtype.kind]
    photometric = 2 if bands > 2 else 1
    bits = 8 * samples.dtype.itemsize
    planes = [samples[:, :, i : i + 1] for i in range(bands)] if planar else [samples]
    pieces = [
        _packed(piece, order, deflated, differences)
        for plane in planes
        for piece in _pieces(plane, tile, rows or height)
    ]
    found: dict[int, Sequence[int]] = {
        256: [width],
        257: [height],
        258: [bits] * bands,
        259: [8 if deflated else 1],
        262: [photometric],
        277: [bands],
        284: [2 if planar else 1],
        339: [kind] * bands,
        **({317: [2]} if differences else {}),
        **(
            {322: [tile[1]], 323: [tile[0]], 324: [0] * len(pieces), 325: [*map(len, pieces)]}
            if tile
            else {273: [0] * len(pieces), 278: [rows or height], 279: [*map(len, pieces)]}
        ),
        **(tags or {}),
    }
    return _assembled(found, pieces, order, big)


def _pieces(
    plane: NDArray[np.generic], tile: tuple[int, int] | None, rows: int
) -> list[NDArray[np.generic]]:
    height, width, _ = plane.shape
    if tile is None:
        return [plane[y : y + rows] for y in range(0, height, rows)]
    down, along = tile
    filled = np.pad(plane, ((0, -height % down), (0, -width % along), (0, 0)))
    return [
        filled[y : y + down, x : x + along]
        for y in range(0, height, down)
        for x in range(0, width, along)
    ]


def _packed(piece: NDArray[np.generic], order: str, deflated: bool, differences: bool) -> bytes:
    if differences:
        piece = np.concatenate([piece[:, :1], np.diff(piece, axis=1)], axis=1)
    data = piece.astype(piece.dtype.newbyteorder("<" if order == "<" else ">")).tobytes()
    return zlib.compress(data) if deflated else data


def _assembled(
    tags: Mapping[int, Sequence[int]], pieces: Sequence[bytes], order: str, big: bool
) -> bytes:
    """The file: header, pieces, values, directory."""
    mark = b"II" if order == "<" else b"MM"
    data = bytearray(
        mark + struct.pack(order + ("HHHQ" if big else "HL"), *((43, 8, 0, 0) if big else (42, 0)))
    )
    places = []
    for piece in pieces:
        places.append(len(data))
        data += piece + b"\0" * (len(piece) % 2)
    tags = {tag: places if tag in (273, 324) else values for tag, values in tags.items()}
    link, inline = ("Q", 8) if big else ("L", 4)
    entries = b""
    for tag, values in sorted(tags.items()):
        kind = 4 if max(values, default=0) > 0xFFFF or tag in (273, 279, 324, 325) else 3
        raw = b"".join(struct.pack(order + _SIZES[kind], value) for value in values)
        if len(raw) > inline:
            raw, at = struct.pack(order + link, len(data)), raw
            data += at + b"\0" * (len(at) % 2)
        head = struct.pack(order + "HH" + link, tag, kind, len(values))
        entries += head + raw.ljust(inline, b"\0")
    struct.pack_into(order + link, data, 8 if big else 4, len(data))
    count = struct.pack(order + ("Q" if big else "H"), len(tags))
    return bytes(data) + count + entries + bytes(inline)


def huge_avif(width: int, height: int) -> bytes:
    """An AVIF file whose container says 40x30, and whose AV1 data begin a picture of this size."""
    # seq_profile 0, still_picture, reduced header, level 31, 16 bits for each side, the sides
    bits = f"000_1_1_11111_1111_1111_{width - 1:016b}_{height - 1:016b}".replace("_", "")
    header = int(bits.ljust(56, "0"), 2).to_bytes(7, "big")
    units = b"\x0a" + bytes([len(header)]) + header
    data = bytearray(saved(picture(40, 30), "AVIF"))
    start = data.index(b"mdat") + 4
    data[start : start + 2 + len(units)] = b"\x12\0" + units
    return bytes(data)
