"""The wire format of protobuf, as far as Caffe2's messages use it.

A worker would need the protobuf package for these two files only. The weights are read by numpy as
they lie. What is read comes from anywhere, so every length is held against the bytes that are
there. The format: https://protobuf.dev/programming-guides/encoding/
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

Float32 = npt.NDArray[np.float32]

VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5
"""Wire types: how long a field is, and how that is said."""

_LONGEST_VARINT = 10
_FIXED = {FIXED64: 8, FIXED32: 4}
_HIGHEST_NUMBER = (1 << 29) - 1
# Of a run of floats, those looked at first; then twice as many each time, up to a bound.
_FIRST_LOOK, _LAST_LOOK = 16, 1 << 20


class WireError(ValueError):
    """The bytes are not what the format says."""


class Reader:
    """Goes through the fields of one message."""

    def __init__(self, data: memoryview) -> None:
        self._data = data
        self._at = 0

    @property
    def ended(self) -> bool:
        """Whether all was read."""
        return self._at >= len(self._data)

    def fields(self) -> Iterator[tuple[int, int]]:
        """Number and wire type of each field; its value is to be read or skipped in between."""
        while not self.ended:
            key = self.varint()
            number, wire_type = key >> 3, key & 7
            if not 0 < number <= _HIGHEST_NUMBER:
                raise WireError(f"a field has the number {number}")
            yield number, wire_type

    def varint(self) -> int:
        """An unsigned number of up to 64 bits."""
        value = 0
        for place in range(_LONGEST_VARINT):
            if self.ended:
                raise WireError("it ends within a number")
            byte = self._data[self._at]
            self._at += 1
            value |= (byte & 127) << (7 * place)
            if byte < 128:
                if value >> 64:
                    break
                return value
        raise WireError("a number has more than 64 bits")

    def integer(self) -> int:
        """A signed number of up to 64 bits."""
        value = self.varint()
        return value - (1 << 64) if value >> 63 else value

    def span(self) -> memoryview:
        """What says its own length: text, bytes, a message, packed numbers."""
        return self._take(self.varint())

    def float32(self) -> float:
        """One float."""
        return float(np.frombuffer(self._take(4), "<f4")[0])

    def float32_run(self, number: int) -> Float32:
        """The float whose key was just read, and those of the same field that follow at once."""
        found = [np.array([self.float32()], np.float32)]
        key = np.frombuffer(encoded_key(number, FIXED32), np.uint8)
        item = np.dtype([("key", np.uint8, (len(key),)), ("value", "<f4")])
        look = _FIRST_LOOK
        while True:
            some = min(look, (len(self._data) - self._at) // item.itemsize)
            if not some:
                break
            items = np.frombuffer(self._data, item, some, self._at)
            same = (items["key"] == key).all(axis=1)
            run = some if same.all() else int(same.argmin())
            found.append(items["value"][:run].astype(np.float32))
            self._at += run * item.itemsize
            if run < look:
                break
            look = min(2 * look, _LAST_LOOK)
        return np.concatenate(found)

    def skip(self, wire_type: int) -> None:
        """Pass over a value that nothing needs."""
        if wire_type == VARINT:
            self.varint()
        elif wire_type == LENGTH:
            self.span()
        elif wire_type in _FIXED:
            self._take(_FIXED[wire_type])
        else:
            raise WireError(f"a field has the wire type {wire_type}")

    def _take(self, length: int) -> memoryview:
        left = len(self._data) - self._at
        if length > left:
            raise WireError(f"{length} bytes should follow where {left} are left")
        self._at += length
        return self._data[self._at - length : self._at]


def packed_integers(data: memoryview) -> list[int]:
    """The numbers of a packed field."""
    reader = Reader(data)
    found = []
    while not reader.ended:
        found.append(reader.integer())
    return found


def packed_floats(data: memoryview) -> Float32:
    """The floats of a packed field."""
    if len(data) % 4:
        raise WireError(f"{len(data)} bytes should be floats of 4 bytes each")
    return np.frombuffer(data, "<f4").astype(np.float32)


def encoded_varint(value: int) -> bytes:
    """An integer of up to 64 bits; a negative one as ten bytes."""
    value &= (1 << 64) - 1
    found = bytearray()
    while value > 127:
        found.append(value & 127 | 128)
        value >>= 7
    found.append(value)
    return bytes(found)


def encoded_key(number: int, wire_type: int) -> bytes:
    """What precedes a field's value."""
    return encoded_varint(number << 3 | wire_type)


def encoded_span(number: int, content: bytes) -> bytes:
    """A field of text, bytes or a message."""
    return encoded_key(number, LENGTH) + encoded_varint(len(content)) + content


def encoded_float32s(number: int, values: Float32) -> bytes:
    """A field of floats that is not packed: each with its key, as Caffe2's messages have it."""
    key = encoded_key(number, FIXED32)
    items = np.empty((values.size, len(key) + 4), np.uint8)
    items[:, : len(key)] = np.frombuffer(key, np.uint8)
    items[:, len(key) :] = values.astype("<f4").reshape(-1, 1).view(np.uint8)
    return items.tobytes()
