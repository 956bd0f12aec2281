"""Options come as bytes or text, and a wrong one is told with what was got and what is allowed."""

from __future__ import annotations

from typing import Any

import pytest

from d2serve.handlers.errors import InvalidOption
from d2serve.handlers.options import DEFAULT_OPTIONS, RequestOptions


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview, bytes.decode])
@pytest.mark.parametrize("value", [b"png", b"rle"])
def test_sem_seg(kind: Any, value: bytes) -> None:
    got = RequestOptions.parse({"data": b"...", "sem_seg": kind(value)})
    assert got == RequestOptions(sem_seg=value.decode())


@pytest.mark.parametrize("request_", [{}, {"data": b"", "other": b"rle"}, {"sem_seg": None}])
def test_without_options(request_: dict[str, Any]) -> None:
    assert RequestOptions.parse(request_) == DEFAULT_OPTIONS == RequestOptions("png")


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (b"", "''"),
        ("jpeg", "'jpeg'"),
        (b"RLE", "'RLE'"),
        (b"rle\n", r"'rle\n'"),
        (b"\xff\x00", r"'\ufffd\x00'"),
        ("größer", r"'gr\xf6\xdfer'"),
        (3, "3"),
        ({"a": 1}, "{'a': 1}"),
        (["rle"], "['rle']"),
    ],
)
def test_what_is_wrong_is_told(value: Any, told: str) -> None:
    with pytest.raises(InvalidOption) as caught:
        RequestOptions.parse({"sem_seg": value})
    message = str(caught.value)
    assert message.startswith(f"Got the option sem_seg={told}, expected one of png, rle.")
    assert (caught.value.status, caught.value.code) == (400, "invalid_option")


def test_a_long_value_is_cut() -> None:
    with pytest.raises(InvalidOption) as caught:
        RequestOptions.parse({"sem_seg": b"x" * 10**6})
    assert len(str(caught.value)) < 200
