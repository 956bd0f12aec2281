"""A pickle in a network is read where it holds anchors, and calls nothing where it holds more."""

from __future__ import annotations

import contextlib
import io
import os
import pickle
import struct
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from d2serve.handlers.errors import LoadError
from d2serve.handlers.netdef.anchors import read_anchor_generator
from tests.handlers.netdef.nets import saved_generator
from tests.handlers.samples import cases

WHOLE, LEGACY = saved_generator((8, 16)), saved_generator((8, 16), legacy=True)


@pytest.mark.parametrize("data", [WHOLE, LEGACY], ids=["zip", "before 1.6"])
def test_anchors_are_detectron2s(data: bytes) -> None:
    from detectron2.modeling.anchor_generator import DefaultAnchorGenerator

    theirs = DefaultAnchorGenerator(
        sizes=[[16.0, 24.0], [32.0, 48.0]], aspect_ratios=[[0.5, 2.0]], strides=[8, 16], offset=0.25
    )
    stream = io.BytesIO()
    torch.save(theirs, stream, _use_new_zipfile_serialization=data is WHOLE)
    ours = read_anchor_generator(stream.getvalue())
    maps = [torch.zeros(1, 1, 5, 7), torch.zeros(1, 1, 3, 4)]
    for level, expected in enumerate(theirs(maps)):
        assert torch.equal(ours.on(level, *maps[level].shape[2:]), expected.tensor)


def test_an_older_generator_has_no_offset() -> None:
    made = torch.load(io.BytesIO(WHOLE), weights_only=False)
    del made.offset
    stream = io.BytesIO()
    torch.save(made, stream)
    assert read_anchor_generator(stream.getvalue()).offset == 0


class _Calls:
    """Is pickled as a call."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


def _zipped(pickled: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("archive/data.pkl", pickled)
    return stream.getvalue()


def _legacy(pickled: bytes) -> bytes:
    return LEGACY[:15] + pickle.dumps(1001, 2) + pickle.dumps({}, 2) + pickled


@pytest.mark.parametrize("form", [_zipped, _legacy])
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize(
    "call",
    [
        lambda path: _Calls(os.system, f"touch {path}"),
        lambda path: _Calls(os.mkdir, str(path)),
        lambda path: _Calls(eval, f"open({str(path)!r}, 'w')"),
        lambda _: _Calls(__import__, "this"),
        lambda path: _Calls(getattr, _Calls(torch.load, str(path)), "x"),
    ],
)
def test_a_pickle_that_calls_is_refused(
    form: Any, protocol: int, call: Any, tmp_path: Path
) -> None:
    path = tmp_path / "called"
    data = form(pickle.dumps(call(path), protocol))
    with pytest.raises(LoadError, match=r"is not read: it (names|has the instruction)"):
        read_anchor_generator(data)
    assert not path.exists()


def test_the_pickle_would_have_called(tmp_path: Path) -> None:
    """So the test above tests something."""
    path = tmp_path / "called"
    pickle.loads(pickle.dumps(_Calls(os.mkdir, str(path))))
    assert path.exists()


@pytest.mark.parametrize(
    ("pickled", "reason"),
    [
        (b"\x80\x02cdetectron2.modeling.anchor_generator\nRotatedAnchorGenerator\n.", "it names"),
        (b"\x80\x02ctorch\nDoubleStorage\n.", r"it names torch\.DoubleStorage"),
        (b"\x80\x04\x8c\x08builtins\x8c\x0dset.__class__\x93.", r"names builtins\.set\.__class__"),
        (b"\x80\x02]r\xff\xff\xff\x7f.", "it has the instruction LONG_BINPUT"),
        (b"\x80\x02(lp0\n.", "it has the instruction LIST"),
        (b"\x80\x02ccollections\nOrderedDict\n.", "it holds a type"),
        (b"\x80\x02K\x01.", "it holds a int"),
        (b"\x80\x02X\x03\x00\x00\x00abcQ.", "it is damaged|it refers to"),
        (b"\x80\x02", "it is damaged"),
        (b"", "it is damaged"),
    ],
)
def test_what_is_no_generator_is_named(pickled: bytes, reason: str) -> None:
    with pytest.raises(LoadError, match=reason):
        read_anchor_generator(_zipped(pickled))


def test_a_pickle_changes_nothing_for_the_next() -> None:
    """BUILD sets attributes, also of a class; the classes are made for each pickle anew."""
    name = b"cdetectron2.modeling.anchor_generator\nDefaultAnchorGenerator\n"
    state = b"N}X\x07\x00\x00\x00stridesK\x05s\x86b."
    with pytest.raises(LoadError):
        read_anchor_generator(_zipped(b"\x80\x02" + name + state))
    assert read_anchor_generator(WHOLE).strides == [8.0, 16.0]


def test_a_packed_zip_is_refused() -> None:
    """It could unpack to any size."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02N." + b"." * 1000)
    with pytest.raises(LoadError, match=r"no file of torch\.save"):
        read_anchor_generator(stream.getvalue())


def test_a_tensor_beyond_its_numbers_is_refused() -> None:
    stream = io.BytesIO(LEGACY)
    short = stream.getvalue()[:-64]
    with pytest.raises(LoadError, match="is not read"):
        read_anchor_generator(short)
    key = LEGACY.rindex(struct.pack("<q", 16))
    with pytest.raises(LoadError, match=r"a storage has -1 numbers|a tensor of shape"):
        read_anchor_generator(LEGACY[:key] + struct.pack("<q", -1) + LEGACY[key + 8 :])


@given(st.data())
@cases(400)
def test_a_damaged_one_is_read_or_refused(data: st.DataObject) -> None:
    whole = bytearray(data.draw(st.sampled_from([WHOLE, LEGACY])))
    for _ in range(data.draw(st.integers(1, 5))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.one_of(st.just(len(whole)), st.integers(0, len(whole))))
    with contextlib.suppress(LoadError):
        read_anchor_generator(bytes(whole[:cut]))
