"""Unpacks the body of a request that was compressed for the way (``Content-Encoding``).

Servers hand over the body as it came. What it unpacks to is counted before it is kept, so that a
small body which becomes a large one costs no memory.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Any

from d2serve.handlers.errors import (
    ImageTooLarge,
    InvalidImage,
    UnsupportedImageFormat,
)
from d2serve.handlers.spec.limits import RequestLimits

_HEADER = "content-encoding"
_GZIP, _ZLIB, _RAW = 31, 15, -15
"""zlib's window bits for each kind."""
_AT_ONCE = 1 << 20
# An image file in base64, in JSON, is a third longer than the file; TorchServe's max_request_size
# is twice max_image_bytes by default.
_MOST_OF_IMAGE_BYTES = 2


def encoding_of(headers: Mapping[str, str]) -> str:
    """The header's value in small letters; empty where nothing is compressed."""
    values = [value for name, value in headers.items() if name.lower() == _HEADER]
    value = ", ".join(values).strip().lower()
    return "" if value == "identity" else value


def unpacked(body: Any, encoding: str, limits: RequestLimits) -> bytes:
    """The body that was compressed.

    Args:
        body: as it came.
        encoding: what the header says.
        limits: of a request; the body may have twice ``max_image_bytes``.

    Raises:
        UnsupportedImageFormat: it is compressed in another way than gzip or deflate.
        ImageTooLarge: it unpacks to more than the limit.
        InvalidImage: it is not compressed, or damaged.
    """
    if encoding not in ("gzip", "x-gzip", "deflate"):
        raise UnsupportedImageFormat(
            f"Got a body with Content-Encoding {encoding[:40]!a}, expected gzip, deflate or none. "
            "Send it uncompressed: image files are compressed already."
        )
    if not isinstance(body, (bytes, bytearray, memoryview)):
        raise InvalidImage(
            f"Got a body with Content-Encoding {encoding} that is not compressed (a "
            f"{type(body).__name__} by its content type). Leave out the header, or compress it."
        )
    body = bytes(body)
    kind, most = _kind(body, encoding), _MOST_OF_IMAGE_BYTES * limits.max_image_bytes
    try:
        _check_size(body, kind, most)
        unpacker = zlib.decompressobj(kind)
        made = unpacker.decompress(body)
    except zlib.error as error:
        raise InvalidImage(
            f"Got a body of {len(body)} bytes with Content-Encoding {encoding} that cannot be "
            f"unpacked ({error}). Compress it as the header says, or leave out the header."
        ) from None
    if not unpacker.eof or unpacker.unused_data:
        rest = "ends too early" if not unpacker.eof else "goes on behind its end"
        raise InvalidImage(
            f"Got a body of {len(body)} bytes with Content-Encoding {encoding} that {rest}. Send "
            "it whole, and compressed in one piece."
        )
    return made


def start_of(body: Any, encoding: str) -> bytes:
    """The first bytes of a body that was compressed, as far as they can be unpacked."""
    try:
        return zlib.decompressobj(_kind(body, encoding)).decompress(body, 4096)
    except (zlib.error, TypeError):
        return b""


def _check_size(body: bytes, kind: int, most: int) -> None:
    unpacker, size = zlib.decompressobj(kind), 0
    for start in range(0, len(body), _AT_ONCE):
        rest = body[start : start + _AT_ONCE]
        while rest and not unpacker.eof:
            size += len(unpacker.decompress(rest, _AT_ONCE))
            rest = unpacker.unconsumed_tail
            if size > most:
                raise ImageTooLarge(
                    f"Got a body of {len(body):,} bytes that unpacks to more than {most:,}. Send "
                    "the image as JPEG, or scale it down: the model resizes it anyway."
                )


def _kind(body: bytes, encoding: str) -> int:
    """What is called deflate has zlib's header by RFC 9110, and from some senders none."""
    if encoding != "deflate":
        return _GZIP
    has_header = body[:1] and body[0] & 15 == 8 and int.from_bytes(body[:2], "big") % 31 == 0
    return _ZLIB if has_header else _RAW
