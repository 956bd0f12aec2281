"""Reads the tensors of a call, which come flat, nested or in binary, and checks their shapes.

JSON may say a tensor row by row or nested; the binary form, behind the JSON, is little-endian and
row by row, with the length before each element of BYTES.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import chain
from math import prod
from typing import Any, Union

import numpy as np

from d2serve.handlers.errors import RequestError
from d2serve.handlers.replies.fields import BYTES, FP32, INT64

UINT8 = "UINT8"

BINARY_SIZE = "binary_data_size"
_MOST_DIMENSIONS = 8
DTYPES = {
    "BOOL": "?",
    UINT8: "u1",
    "UINT16": "<u2",
    "UINT32": "<u4",
    "UINT64": "<u8",
    "INT8": "i1",
    "INT16": "<i2",
    "INT32": "<i4",
    INT64: "<i8",
    FP32: "<f4",
    "FP64": "<f8",
}
"""numpy's names of the protocol's types of numbers, as they are in binary."""

Data = Union[list[Any], memoryview]


@dataclass(frozen=True)
class Tensor:
    """One input of a call, of which nothing is unpacked yet."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    data: Data
    """A list, or its binary form."""
    wrong: type[RequestError]
    """What to raise where it is not what its shape and type say."""

    @property
    def count(self) -> int:
        """Elements, by the shape."""
        return prod(self.shape)

    @property
    def shown(self) -> str:
        """Its name, as messages have it."""
        return f"the input {self.name[:40]!a}"

    def numbers(self) -> list[Any]:
        """The elements, row by row, as JSON or numpy has them; their types are not checked."""
        if isinstance(self.data, list):
            return self._flat(self.data)
        dtype = np.dtype(DTYPES[self.datatype])
        self.check_size(dtype.itemsize)
        values = np.frombuffer(self.data, dtype)
        if self.datatype == FP32:  # 0.7 is to be 0.7, as in JSON
            return [float(str(each)) for each in values]
        listed: list[Any] = values.tolist()
        return listed

    def elements(self) -> list[Any]:
        """The elements of a tensor of type BYTES: bytes of a binary one, otherwise as in JSON."""
        if isinstance(self.data, list):
            return self._flat(self.data)
        found, place = list[bytes](), 0
        while place + 4 <= len(self.data) and len(found) < self.count:
            (length,) = struct.unpack_from("<I", self.data, place)
            found.append(bytes(self.data[place + 4 : place + 4 + length]))
            place += 4 + length
        if place != len(self.data) or len(found) != self.count:
            raise self.wrong(
                f"Got {len(self.data)} binary bytes of {self.shown} that are not {self.count} "
                "elements, each with its length in 4 bytes (little-endian) before it."
            )
        return found

    def check_size(self, itemsize: int) -> None:
        """Refuse binary contents that are not as long as the shape says."""
        if len(self.data) != itemsize * self.count:
            raise self.wrong(
                f"Got {len(self.data)} binary bytes of {self.shown}, expected {self.count} times "
                f"{itemsize} for the shape {list(self.shape)} of {self.datatype}."
            )

    def _flat(self, data: list[Any]) -> list[Any]:
        flat = _unnested(data, self.shape) if data and isinstance(data[0], list) else data
        if flat is None or len(flat) != self.count:
            got = "nested lists of another shape" if flat is None else f"{len(flat)} values"
            raise self.wrong(
                f"Got {got} for {self.shown}, expected {self.count} for its shape "
                f"{list(self.shape)}: row by row in one list, or nested as the shape is. (Over "
                "gRPC send contents: TorchServe drops raw contents.)"
            )
        return flat


def read_tensor(
    given: Mapping[str, Any], raw: memoryview, wrong: type[RequestError]
) -> tuple[Tensor, memoryview]:
    """One input of a call, and the binary contents that are left for those behind it.

    Raises:
        wrong: it is no tensor.
    """
    name = given.get("name")
    if not isinstance(name, str):
        raise wrong("Got an input without a name, expected name, datatype, shape and data.")
    shown, parameters = f"the input {name[:40]!a}", given.get("parameters") or {}
    if not isinstance(parameters, Mapping) or set(parameters) - {BINARY_SIZE}:
        raise wrong(
            f"Got parameters of {shown} that do not exist, expected none but {BINARY_SIZE}. "
            "Options are parameters of the whole request, or further inputs."
        )
    datatype, shape = given.get("datatype"), given.get("shape")
    if not isinstance(datatype, str) or datatype not in (BYTES, *DTYPES):
        raise wrong(f"Got {shown} without a datatype that is read: {BYTES}, {', '.join(DTYPES)}.")
    if (
        not isinstance(shape, list)
        or len(shape) > _MOST_DIMENSIONS
        or not all(map(_is_size, shape))
    ):
        raise wrong(f"Got {shown} without a shape, expected a list of whole numbers from 0 on.")
    data, size = given.get("data"), parameters.get(BINARY_SIZE)
    if size is not None and data is None:
        if not _is_size(size) or size > len(raw):
            raise wrong(
                f"Got {BINARY_SIZE}={str(size)[:20]!a} for {shown}, and {len(raw)} bytes behind "
                "the JSON and the inputs before it. The header Inference-Header-Content-Length "
                "says where the JSON ends."
            )
        data, raw = raw[:size], raw[size:]
    elif size is not None or not isinstance(data, list):
        raise wrong(f"Got {shown} without data, expected a list, or {BINARY_SIZE} and no data.")
    return Tensor(name, datatype, tuple(shape), data, wrong), raw


def packed(elements: Iterable[bytes]) -> bytes:
    """The binary form of a tensor of type BYTES."""
    return b"".join(part for each in elements for part in (struct.pack("<I", len(each)), each))


def _unnested(data: list[Any], shape: tuple[int, ...]) -> list[Any] | None:
    """The innermost values of nested lists, row by row; None where they are of another shape."""
    if not shape or len(data) != shape[0]:
        return None
    for size in shape[1:]:
        if set(map(type, data)) != {list} or set(map(len, data)) != {size}:
            return None
        data = list(chain.from_iterable(data))
    return data


def _is_size(value: object) -> bool:
    return type(value) is int and 0 <= value < 2**31
