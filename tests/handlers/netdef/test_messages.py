"""Caffe2's messages are read and written as protobuf's own package does it."""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from hypothesis import given
from hypothesis import strategies as st

from d2serve.handlers.netdef.messages import (
    Argument,
    NetDef,
    OperatorDef,
    argument,
    decode,
    encode,
)
from d2serve.handlers.netdef.wire import WireError
from tests.handlers.samples import cases

_NET = NetDef(
    name="net",
    op=(
        OperatorDef(
            "Conv",
            ("x", "w"),
            ("y",),
            (argument("kernel", 3), argument("scale", 0.25), argument("order", "NCHW")),
        ),
        OperatorDef(
            "GivenTensorFill",
            output=("w",),
            arg=(argument("shape", [2, 50]), argument("values", np.arange(100, dtype=np.float32))),
        ),
    ),
    arg=(argument("pads", [-1, 2**40]), argument("names", ["a", b"\xff"]), argument("none", [])),
    external_input=("x", "w"),
    external_output=("y",),
)


def _protobuf() -> Any:
    """The class of NetDef that protobuf's own package makes of our numbers."""
    file = descriptor_pb2.FileDescriptorProto(name="net.proto", package="test", syntax="proto2")
    types = {"text": 9, "bytes": 12, "integer": 3, "float": 2}
    for kind in (Argument, OperatorDef, NetDef):
        message = file.message_type.add(name=kind.__name__)
        blank = kind()
        for name, (number, holds) in kind.numbers.items():
            many = isinstance(getattr(blank, name), (tuple, np.ndarray))
            made = message.field.add(name=name, number=number, label=3 if many else 1)
            if isinstance(holds, str):
                made.type = types[holds]
            else:
                made.type, made.type_name = 11, f".test.{holds.__name__}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("test.NetDef"))


def test_written_and_read_again() -> None:
    read = decode(NetDef, encode(_NET))
    assert repr(read) == repr(_NET)
    np.testing.assert_array_equal(read.op[1].arg[1].floats, np.arange(100))


def test_protobuf_reads_and_writes_the_same() -> None:
    theirs = _protobuf()()
    theirs.ParseFromString(encode(_NET))
    assert theirs.SerializeToString(deterministic=True) == encode(_NET)
    assert theirs.op[0].arg[0].i == 3
    assert list(theirs.arg[0].ints) == [-1, 2**40]
    assert list(theirs.op[1].arg[1].floats) == list(range(100))


def test_fields_that_are_not_needed_are_passed_over() -> None:
    extra = b"\x78\x05" + b"\x7a\x02ab" + b"\x7d1234" + b"\x7912345678"
    assert repr(decode(NetDef, extra + encode(_NET))) == repr(_NET)


def test_packed_numbers_are_read_as_well() -> None:
    packed = b"\x0a\x01a\x32\x02\x01\x02" + b"\x2a\x08" + np.array([1, 2], "<f4").tobytes()
    read = decode(Argument, packed)
    assert read.ints == (1, 2)
    assert read.floats.tolist() == [1.0, 2.0]


def test_floats_with_another_field_in_between() -> None:
    one, two = (encode(Argument(floats=np.full(40, v, np.float32))) for v in (1, 2))
    read = decode(Argument, one + encode(Argument("a")) + two)
    assert read.floats.tolist() == [1.0] * 40 + [2.0] * 40


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\x0a", "ends within a number"),
        (b"\x0a\x05ab", "5 bytes should follow where 2 are left"),
        (b"\x0a\x01\xff", "no text"),
        (b"\x08\x01", "wire type 0"),
        (b"\x0a\x01a\x0a\x01b", "comes twice"),
        (b"\x00", "number 0"),
        (b"\x7b", "wire type 3"),
        (b"\xff" * 11, "more than 64 bits"),
        (b"\x7a\xff\xff\xff\xff\xff\xff\xff\xff\x7f", "bytes should follow"),
    ],
)
def test_damage_is_named(data: bytes, reason: str) -> None:
    with pytest.raises(WireError, match=reason):
        decode(NetDef, data)


@given(st.binary(max_size=200))
@cases(200)
def test_any_bytes_are_a_net_or_refused(data: bytes) -> None:
    try:
        net = decode(NetDef, data)
    except WireError:
        return
    assert repr(decode(NetDef, encode(net))) == repr(net)


@given(st.data())
@cases(200)
def test_a_damaged_net_is_a_net_or_refused(data: st.DataObject) -> None:
    whole = bytearray(encode(_NET))
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(whole) - 1))
        whole[place] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(whole)))
    with contextlib.suppress(WireError):
        decode(NetDef, bytes(whole[:cut]))
