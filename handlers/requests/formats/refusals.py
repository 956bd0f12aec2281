"""Says why a file is not read: of another format, of a kind of a served one, or damaged.

A format that is not served is the client's 415, and so is a kind of a served format that cannot be
read whole; a damaged file of a served format is 400.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping

from d2serve.handlers.errors import InvalidImage, RequestError, UnsupportedImageFormat
from d2serve.handlers.requests.formats import tiff
from d2serve.handlers.requests.formats.foreign import AVIF, RAW_PHOTO, Foreign, foreign_format
from d2serve.handlers.requests.formats.tiff import TiffPage, first_page

_STARTS: Mapping[str, bytes | tuple[bytes, ...]] = {
    "JPEG": b"\xff\xd8",
    "PNG": b"\x89PNG",
    "GIF": b"GIF8",
    "BMP": b"BM",
    "WEBP": b"RIFF",
    "TIFF": tiff.STARTS,
}
"""Of files that are of a served format, whatever else is wrong with them."""

_SAVE = "Save it as PNG, or as a JPEG of the usual kind"
_BANDS = "Save the bands that the model takes as PNG or TIFF of 8 or 16 bits, grey or RGB"
_TOGETHER = "Save it with its bands beside each other (PLANARCONFIG contiguous)"
_SCALE = "Scale its values to 8 or 16 bits and save it as PNG or TIFF, grey or RGB"

# By JPEG's marker of a frame: all else is decoded.
_KINDS_OF_JPEG = {
    **dict.fromkeys((0xC3, 0xC7, 0xCB, 0xCF), "a lossless JPEG"),
    **dict.fromkeys((0xC5, 0xC6, 0xCD, 0xCE), "a hierarchical JPEG"),
    **dict.fromkeys((0xC9, 0xCA), "a JPEG with arithmetic coding"),
    0xF7: "a JPEG-LS file",
}
_MOST_SEGMENTS = 1000
_MOST_CHUNKS = 100_000


def check_page(page: TiffPage, size: int) -> None:
    """Refuse a TIFF that would be read as something else than its picture.

    Args:
        page: its first one.
        size: of the file in bytes.

    Raises:
        UnsupportedImageFormat: it is a raw photo, or which of its values is white is not known.
    """
    if page.is_raw_photo:
        raise _foreign(RAW_PHOTO, size, "")
    kind, bits = page.one(tiff.SAMPLE_FORMAT), page.bits
    known = kind in (tiff.UNSIGNED, tiff.UNDEFINED) or (kind == tiff.SIGNED and bits == 8)
    if not known or bits not in (1, 2, 4, 8, 16):
        raise _unsupported(size, page.described, _SCALE)


def check_planes(page: TiffPage, size: int) -> None:
    """Refuse a TIFF of which Pillow mixes up the colours.

    Args:
        page: its first one, which is to be read by Pillow.
        size: of the file in bytes.

    Raises:
        UnsupportedImageFormat: it has several bands of 16 bits, uncompressed in planes.
    """
    if page.bits == 16 and page.in_planes and page.bands > 1 and page.one(tiff.COMPRESSION) == 1:
        raise _unsupported(size, page.described, _TOGETHER)


def why_not_read(data: bytes, formats: tuple[str, ...]) -> RequestError:
    """The error for a file that Pillow takes for none of the served formats.

    Args:
        data: the file.
        formats: that are served.
    """
    size, served = len(data), ", ".join(formats)
    page = first_page(data)
    if page is not None and page.is_whole and all(page.size):
        return _unsupported(size, page.described, _SCALE if page.bits > 16 else _BANDS)
    kind = _kind_of_jpeg(data)
    if kind is not None:
        return _unsupported(size, kind, _SAVE)
    found = foreign_format(data)
    if found is not None and not (found is AVIF and "AVIF" in formats):
        return _foreign(found, size, f" Served are {served}.")
    starting = [name for name, starts in _STARTS.items() if data.startswith(starts)]
    if found is AVIF or starting:
        return InvalidImage(
            f"Got {size} bytes that start as {(*starting, 'AVIF')[0]} and are damaged"
            f"{_where(data)}. Send the file again whole, or save the image again."
        )
    return UnsupportedImageFormat(
        f"Got {size} bytes starting with {data[:8]!r}, which is no {served} file. Send the bytes "
        "of an image file, not its path, URL or base64 text."
    )


def why_not_decoded(data: bytes, name: str, reason: str) -> RequestError:
    """The error for a file that Pillow has opened and cannot decode.

    Args:
        data: the file.
        name: of its format.
        reason: the decoder's, in one line.
    """
    kind = _kind_of_jpeg(data)
    if kind is not None:
        return _unsupported(len(data), kind, _SAVE)
    page = first_page(data)
    rare = "" if page is None else f" It is {page.described}: if it is whole, save it as PNG."
    return InvalidImage(
        f"Got {len(data)} bytes that start as {name} but cannot be decoded ({reason}). The file is "
        f"probably truncated or damaged: send it again whole.{rare}"
    )


def _where(data: bytes) -> str:
    """Which part of a PNG has another checksum than the file says, if one has."""
    at = 8 if data.startswith(b"\x89PNG") else len(data)
    for _ in range(_MOST_CHUNKS):
        if at + 12 > len(data):
            break
        end = at + 8 + int.from_bytes(data[at : at + 4], "big")
        expected = int.from_bytes(data[end : end + 4], "big")
        if end + 4 > len(data):
            break
        if zlib.crc32(memoryview(data)[at + 4 : end]) != expected:
            return f" (the checksum of the chunk {data[at + 4 : at + 8]!a} is wrong)"
        at = end + 4
    return " or cut off near the start"


def _foreign(found: Foreign, size: int, served: str) -> UnsupportedImageFormat:
    return UnsupportedImageFormat(
        f"Got {size} bytes that are {found.name}, which is not served. {found.advice}.{served}"
    )


def _unsupported(size: int, what: str, advice: str) -> UnsupportedImageFormat:
    return UnsupportedImageFormat(
        f"Got {size} bytes that are {what}, a kind that is not read. {advice}."
    )


def _kind_of_jpeg(data: bytes) -> str | None:
    """What kind of JPEG its first frame says, where that is one which is not read."""
    if not data.startswith(b"\xff\xd8"):
        return None
    at = 2
    try:
        for _ in range(_MOST_SEGMENTS):
            marker = data[at + 1]
            if data[at] != 0xFF or marker == 0xDA:
                return None
            if marker in (0x00, 0xFF):
                at += 1
                continue
            if marker in _KINDS_OF_JPEG:
                return _KINDS_OF_JPEG[marker]
            if 0xC0 <= marker <= 0xC2 and data[at + 4] != 8:
                return f"a JPEG of {data[at + 4]} bits"
            at += 2 + (0 if 0xD0 <= marker <= 0xD8 else struct.unpack_from(">H", data, at + 2)[0])
    except (IndexError, struct.error):
        pass
    return None
