"""Reads and writes protobuf's wire format, so that a worker needs no package for it.

What a field means is its caller's affair. A field is named by where it lies, so that a message of
hundreds of megabytes is looked through without a copy, and what is not understood can be passed on
as it is. The format: https://protobuf.dev/programming-guides/encoding/
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5
"""Wire types: how long a field is, and how that is said."""

_FIXED = {FIXED64: 8, FIXED32: 4}
_LONGEST_VARINT = 10


class WireError(ValueError):
    """The bytes are not what the format says."""


class Place(NamedTuple):
    """Where bytes lie."""

    start: int
    end: int

    def of(self, data: memoryview) -> memoryview:
        """The bytes themselves."""
        return data[self.start : self.end]

    @property
    def length(self) -> int:
        """How many bytes."""
        return self.end - self.start


class Field(NamedTuple):
    """One field of a message."""

    number: int
    wire_type: int
    value: int
    """Of a varint; of others 0."""
    content: Place
    """The value's bytes, without the length before them."""
    whole: Place
    """From its key to its end."""


def fields(data: memoryview, message: Place) -> Iterator[Field]:
    """The fields of a message, in their order.

    Raises:
        WireError: it breaks off, or is no message at all.
    """
    at = message.start
    while at < message.end:
        start = at
        key, at = _varint(data, at, message.end)
        number, wire_type = key >> 3, key & 7
        value = 0
        content = at
        if wire_type == VARINT:
            value, end = _varint(data, at, message.end)
        elif wire_type == LENGTH:
            length, content = _varint(data, at, message.end)
            end = content + length
        elif wire_type in _FIXED:
            end = at + _FIXED[wire_type]
        else:
            raise WireError(f"a field has the wire type {wire_type}")
        if end > message.end:
            raise WireError(f"field {number} should end at byte {end}, its message ends before")
        yield Field(number, wire_type, value, Place(content, end), Place(start, end))
        at = end


def signed(value: int) -> int:
    """A varint as the signed number of 64 bits that it stands for."""
    return value - (1 << 64) if value >> 63 else value


def packed(data: memoryview, content: Place) -> list[int]:
    """The signed numbers of a packed field."""
    found = []
    at = content.start
    while at < content.end:
        value, at = _varint(data, at, content.end)
        found.append(signed(value))
    return found


def encoded_integer(number: int, value: int) -> bytes:
    """A field that is a number."""
    return _encoded_varint(number << 3 | VARINT) + _encoded_varint(value)


def encoded(number: int, content: bytes | str) -> bytes:
    """A field that is text, bytes or a message."""
    written = content.encode() if isinstance(content, str) else content
    return _encoded_varint(number << 3 | LENGTH) + _encoded_varint(len(written)) + written


def _varint(data: memoryview, at: int, end: int) -> tuple[int, int]:
    value = 0
    for place in range(_LONGEST_VARINT):
        if at >= end:
            raise WireError("it ends within a number")
        byte = data[at]
        at += 1
        value |= (byte & 127) << (7 * place)
        if byte < 128:
            return value & ((1 << 64) - 1), at
    raise WireError("a number has more than 64 bits")


def _encoded_varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    found = bytearray()
    while value > 127:
        found.append(value & 127 | 128)
        value >>= 7
    found.append(value)
    return bytes(found)
