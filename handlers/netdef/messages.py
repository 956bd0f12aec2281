"""Caffe2's messages that a detectron2 file is made of, each with its numbers on the wire.

One table serves reading and writing. The numbers are those of caffe2/proto/caffe2.proto, by which
protobuf knows fields; fields that are not in the table mean nothing to a detection network and are
passed over. Fields that Caffe2 marks as optional come once at most.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, TypeVar, Union

import numpy as np
import numpy.typing as npt

from d2serve.handlers.netdef.wire import (
    FIXED32,
    LENGTH,
    VARINT,
    Float32,
    Reader,
    WireError,
    encoded_float32s,
    encoded_key,
    encoded_span,
    encoded_varint,
    packed_floats,
    packed_integers,
)

M = TypeVar("M", bound="Message")

TEXT, BYTES, INTEGER, FLOAT = "text", "bytes", "integer", "float"
_WIRE_TYPES = {TEXT: LENGTH, BYTES: LENGTH, INTEGER: VARINT, FLOAT: FIXED32}


class Message:
    """A message whose class says, by field, its number and what it holds."""

    numbers: ClassVar[dict[str, tuple[int, Any]]]
    """By name of a field: its number and TEXT, BYTES, INTEGER, FLOAT or the class of a message. It
    is repeated where its value is a tuple or an array; otherwise None stands for an absent one."""


@dataclass(frozen=True)
class Argument(Message):
    """A named value of an operator or of a net: one of the fields beside its name."""

    numbers: ClassVar[dict[str, tuple[int, Any]]] = {
        "name": (1, TEXT),
        "f": (2, FLOAT),
        "i": (3, INTEGER),
        "s": (4, BYTES),
        "floats": (5, FLOAT),
        "ints": (6, INTEGER),
        "strings": (7, BYTES),
    }

    name: str | None = None
    f: float | None = None
    i: int | None = None
    s: bytes | None = None
    floats: Float32 = field(default_factory=lambda: np.zeros(0, np.float32))
    ints: tuple[int, ...] = ()
    strings: tuple[bytes, ...] = ()


@dataclass(frozen=True)
class OperatorDef(Message):
    """One step of a net."""

    numbers: ClassVar[dict[str, tuple[int, Any]]] = {
        "input": (1, TEXT),
        "output": (2, TEXT),
        "name": (3, TEXT),
        "type": (4, TEXT),
        "arg": (5, Argument),
    }

    type: str | None = None
    input: tuple[str, ...] = ()
    output: tuple[str, ...] = ()
    arg: tuple[Argument, ...] = ()
    name: str | None = None


@dataclass(frozen=True)
class NetDef(Message):
    """A network: ``model.pb`` holds one, and ``model_init.pb`` one that fills its weights."""

    numbers: ClassVar[dict[str, tuple[int, Any]]] = {
        "name": (1, TEXT),
        "op": (2, OperatorDef),
        "arg": (6, Argument),
        "external_input": (7, TEXT),
        "external_output": (8, TEXT),
    }

    name: str | None = None
    op: tuple[OperatorDef, ...] = ()
    arg: tuple[Argument, ...] = ()
    external_input: tuple[str, ...] = ()
    external_output: tuple[str, ...] = ()


ArgumentValue = Union[int, float, str, bytes, Sequence[Any], npt.NDArray[np.generic]]


def argument(name: str, value: ArgumentValue) -> Argument:
    """An argument in the field that Caffe2 looks for such a value in.

    Args:
        value: a number, text or bytes, or several of one kind. An array is written flat; of float64
            it becomes float32, as Caffe2 has no other floats.

    Raises:
        TypeError: Caffe2 has no argument of this kind.
    """
    if isinstance(value, int):
        return Argument(name, i=int(value))
    if isinstance(value, float):
        return Argument(name, f=value)
    if isinstance(value, (str, bytes)):
        return Argument(name, s=_as_bytes(value))
    if len(value) and isinstance(value[0], (str, bytes)):
        return Argument(name, strings=tuple(_as_bytes(each) for each in value))
    array = np.asarray(value).ravel()
    if not array.size:
        return Argument(name)
    if array.dtype.kind in "iub":
        return Argument(name, ints=tuple(array.tolist()))
    if array.dtype.kind == "f":
        return Argument(name, floats=array.astype(np.float32))
    raise TypeError(f"the argument {name} is of {array.dtype}, expected numbers, text or bytes")


def _as_bytes(value: Any) -> bytes:
    return value.encode() if isinstance(value, str) else bytes(value)


def decode(kind: type[M], data: bytes | memoryview) -> M:
    """Read a message.

    Raises:
        WireError: the bytes are none, or a field is of another kind than its number says.
    """
    found: dict[str, list[Any]] = {}
    by_number = {number: (name, holds) for name, (number, holds) in kind.numbers.items()}
    repeated = _repeated(kind)
    reader = Reader(memoryview(data))
    for number, wire_type in reader.fields():
        if number not in by_number:
            reader.skip(wire_type)
            continue
        name, holds = by_number[number]
        values = found.setdefault(name, [])
        if values and name not in repeated:
            raise WireError(f"the field {name} of a {kind.__name__} comes twice")
        packed = name in repeated and wire_type == LENGTH and holds in (INTEGER, FLOAT)
        if not packed and wire_type != _WIRE_TYPES.get(holds, LENGTH):
            raise WireError(f"the field {name} of a {kind.__name__} has wire type {wire_type}")
        if packed:
            values += (
                [packed_floats(reader.span())] if holds == FLOAT else packed_integers(reader.span())
            )
        elif holds == FLOAT and name in repeated:
            values.append(reader.float32_run(number))
        else:
            values.append(_value(reader, holds, f"{name} of a {kind.__name__}"))
    return kind(**{name: _joined(values, name in repeated) for name, values in found.items()})


def _repeated(kind: type[Message]) -> frozenset[str]:
    return frozenset(
        each.name
        for each in fields(kind)  # type: ignore[arg-type]
        if each.default == () or callable(each.default_factory)
    )


def _joined(values: list[Any], repeated: bool) -> Any:
    if not repeated:
        return values[0]
    if values and isinstance(values[0], np.ndarray):
        return values[0] if len(values) == 1 else np.concatenate(values)
    return tuple(values)


def _value(reader: Reader, holds: Any, what: str) -> Any:
    if holds == INTEGER:
        return reader.integer()
    if holds == FLOAT:
        return reader.float32()
    content = reader.span()
    if holds == BYTES:
        return bytes(content)
    if holds != TEXT:
        return decode(holds, content)
    try:
        return str(content, "utf-8")
    except UnicodeDecodeError:
        raise WireError(f"the field {what} is no text") from None


def encode(message: Message) -> bytes:
    """Write a message, its fields in the order of their numbers."""
    parts = []
    for name, (number, holds) in sorted(message.numbers.items(), key=lambda each: each[1][0]):
        value = getattr(message, name)
        write = _WRITERS.get(holds, _write_message)
        if isinstance(value, np.ndarray):
            parts.append(encoded_float32s(number, value))
        elif isinstance(value, tuple):
            parts += [write(number, each) for each in value]
        elif value is not None:
            parts.append(write(number, value))
    return b"".join(parts)


def _write_message(number: int, message: Message) -> bytes:
    return encoded_span(number, encode(message))


_WRITERS: dict[Any, Callable[[int, Any], bytes]] = {
    TEXT: lambda number, value: encoded_span(number, value.encode()),
    BYTES: encoded_span,
    INTEGER: lambda number, value: encoded_key(number, VARINT) + encoded_varint(value),
    FLOAT: lambda number, value: encoded_float32s(number, np.array([value], np.float32)),
}
