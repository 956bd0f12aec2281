"""JSON is read whatever its content type says, and what says a thing twice is refused."""

from __future__ import annotations

import contextlib
import json
import time
from typing import Any

import pytest

from d2serve.handlers.errors import InvalidOption
from d2serve.handlers.requests.bodies.json_text import check_names, parsed
from d2serve.handlers.requests.request import INFER, PREDICT, Request, classify

JSON = {"Content-Type": "Application/JSON; charset=utf-8"}


@pytest.mark.parametrize(
    ("text", "headers", "expected"),
    [
        (b' {"image": "AAAA"}', {}, {"image": "AAAA"}),
        ('\n{"image": "AAAA"}', {"content-type": "text/plain"}, {"image": "AAAA"}),
        (b'["AAAA"]', JSON, ["AAAA"]),
        (b'"AAAA"', JSON, "AAAA"),
        (b"null", JSON, None),
        (b"-1", JSON, -1),
        (b'["AAAA"]', {}, b'["AAAA"]'),
        (b"[1", JSON, b"[1"),
        (b'{"id": "\\ud800", "inputs": 1}', JSON, {"id": "\ud800", "inputs": 1}),
        (b'{"id": "\\ud800"}', {}, b'{"id": "\\ud800"}'),
        (b'{"a":' * 100_000, JSON, b'{"a":' * 100_000),
        (b"{nope", JSON, b"{nope"),
        (b"", JSON, b""),
        (b"\xff\xd8\xff", JSON, b"\xff\xd8\xff"),
    ],
)
def test_what_is_json(text: Any, headers: dict[str, str], expected: Any) -> None:
    assert parsed(text, headers)[0] == expected


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ('{"image": "A", "score_thresh": 0.1, "score_thresh": 0.9}', "score_thresh"),
        ('{"image": "A", "image": "B"}', "image"),
        ('{"inputs": [], "inputs": []}', "inputs"),
        ('{"inputs": [], "parameters": {"masks": "rle", "masks": "none"}}', "masks"),
        ('{"inputs": [{"name": "image", "shape": [1], "shape": [2]}], "shape": 1}', "shape"),
        ('{"' + "x" * 10**5 + '": 1, "' + "x" * 10**5 + '": 2}', "x" * 40),
        ("{" + ", ".join(f'"{i}": 1' for i in range(60)) + ', "7": 2}', "7"),
    ],
)
@pytest.mark.parametrize("kind", [str.encode, str, lambda text: bytearray(text.encode())])
def test_a_name_twice(text: str, name: str, kind: Any) -> None:
    call = classify(Request(kind(text)))
    assert isinstance(call.refused, InvalidOption)
    assert f"Got {name!r} twice in one JSON object" in str(call.refused)
    assert len(str(call.refused)) < 200
    assert call.kind == (INFER if "inputs" in text else PREDICT)


@pytest.mark.parametrize(
    "text",
    [
        '{"image": "A", "classes": "image"}',
        '{"image": "A", "classes": ["image", "classes"]}',
        '{"inputs": [{"name": "outputs", "parameters": {}}], "outputs": [], "parameters": {}}',
        '{"a": {"a": {"a": 1}}}',
        '{"a": "\\"a\\"", "\\u0062": 1}',
        "{" + ", ".join(f'"{i}": 1' for i in range(60)) + "}",
    ],
)
def test_a_name_that_stands_in_several_places(text: str) -> None:
    assert classify(Request(text.encode())).refused is None


def test_names_that_are_no_text_of_utf_8() -> None:
    """As TorchServe's own reader has let them through."""
    for text in (b'{"\\ud800": 1, "a": NaN}', b'{"inputs": [], "parameters": {"\\udfff": 1}}'):
        assert classify(Request(text, headers=JSON)).refused is None
    twice = classify(Request(b'{"\\ud800": 1, "\\ud800": 2}', headers=JSON)).refused
    assert "twice" in str(twice)
    assert str(twice).isascii()


def test_binary_contents_are_no_names() -> None:
    start = b'{"inputs": [], "id": "7"}'
    headers = {"Inference-Header-Content-Length": str(len(start))}
    call = classify(Request(start + b'"id""inputs"', headers=headers))
    assert (call.refused, bytes(call.contents)) == (None, b'"id""inputs"')


def test_names_are_looked_at_within_a_second() -> None:
    many = json.dumps({"image": "A", "many": [{}] * 5_000_000}).replace("many", "image", 1)
    long = json.dumps({"image": "A" * 30_000_000, "b": 1})
    for text in (many, long, long[:-1] + ', "b": 2}'):
        body, sent = json.loads(text), text.encode()
        began = time.monotonic()
        with contextlib.suppress(InvalidOption):
            check_names(body, sent, {})
        assert time.monotonic() - began < 3  # on a machine that others share
