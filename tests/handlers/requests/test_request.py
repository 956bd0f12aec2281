"""What kind of request each is, and of which transport, decided once."""

from __future__ import annotations

import json
from typing import Any

import pytest

from d2serve.handlers.requests.request import (
    DESCRIBE,
    GRPC,
    HTTP,
    INFER,
    PREDICT,
    Call,
    Request,
    classify,
)

IMAGE = {"name": "image", "datatype": "BYTES", "shape": [1], "data": ["aGk="]}


def classified(body: Any, kind: str | None = None, **headers: str) -> Call:
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    return classify(Request(body, headers=headers, kind=kind, transport=HTTP, id="server's"))


@pytest.mark.parametrize(
    ("body", "kind", "expected"),
    [
        ({"id": "7", "inputs": [IMAGE]}, None, (INFER, "7")),
        ({"id": "7", "inputs": [IMAGE]}, INFER, (INFER, "7")),
        ({"id": 7, "inputs": None}, None, (INFER, "server's")),
        ({"id": "\ud800", "inputs": None}, None, (INFER, "server's")),
        ({"id": "x" * 1001, "inputs": None}, None, (INFER, "server's")),
        ({"id": "", "inputs": [IMAGE]}, None, (INFER, "server's")),
        ({}, INFER, (INFER, "server's")),
        (b"{nope", INFER, (INFER, "server's")),
        (b"x", None, (PREDICT, "server's")),
        ({"image": "aGk="}, None, (PREDICT, "server's")),
        (b"{nope", None, (PREDICT, "server's")),
        (None, None, (PREDICT, "server's")),
        (None, DESCRIBE, (DESCRIBE, "server's")),
    ],
)
def test_kinds(body: Any, kind: str | None, expected: tuple[str, str]) -> None:
    call = classified(body, kind)
    assert (call.kind, call.infer_id) == expected


def test_without_any_id() -> None:
    call = classify(Request({"inputs": []}))
    assert (call.kind, call.infer_id, call.request_id) == (INFER, "", None)


def test_transports() -> None:
    assert classify(Request(b"x", transport=GRPC)).grpc
    assert not classify(Request(b"x", transport=HTTP)).grpc
    assert not classify(Request(b"x")).grpc


def test_json_that_the_server_has_not_read() -> None:
    body = json.dumps({"inputs": [IMAGE]}).encode()
    assert classified(bytearray(body)).body == {"inputs": [IMAGE]}
    call = classified(body + b"behind", inference_Header_content_length=str(len(body)))
    assert (call.kind, call.body) == (INFER, {"inputs": [IMAGE]})
    assert bytes(call.contents) == b"behind"


@pytest.mark.parametrize(
    ("body", "length"),
    [
        (None, None),
        (b"\xff\xd8", None),
        ({"inputs": []}, "5"),
        (b"{", None),
        (b"{}{}", None),
        (b"{}{}", "1"),
        (b"{}{}", "-2"),
        (b"{}{}", "9" * 5000),
        (b'{"a":' * 100_000, None),
        ("text", None),
    ],
)
def test_what_stays_as_it_is(body: Any, length: str | None) -> None:
    headers = {} if length is None else {"Inference_Header_Content_Length": length}
    call = classified(body, **headers)
    assert call.body == body
    assert not len(call.contents)
