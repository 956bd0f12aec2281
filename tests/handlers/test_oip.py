"""What TorchServe hands over of the Open Inference Protocol, and the shape that it can answer."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from d2serve.handlers.errors import EmptyRequest, InvalidOption
from d2serve.handlers.oip import OipCall, as_plain_json, oip_call

GRPC = {"body": {"content-type": "application/json"}}
HTTP = {**GRPC, "Host": "x"}
IMAGE = {"name": "image", "datatype": "BYTES", "shape": [1], "data": ["aGk="]}


@pytest.mark.parametrize(
    ("request_", "headers", "call"),
    [
        ({"body": {"id": "7", "inputs": [IMAGE]}}, GRPC, OipCall("7", True)),
        ({"body": {"id": "7", "inputs": [IMAGE]}}, HTTP, OipCall("7", False)),
        ({"body": {"id": 7, "inputs": None}}, HTTP, OipCall("", False)),
        ({"body": {}}, GRPC, OipCall("", True)),
        ({"body": b"{nope"}, GRPC, OipCall("", True)),
        ({"body": b"x"}, {"body": {"content-type": ""}}, None),
        ({"body": {"image": "aGk="}}, HTTP, None),
        ({"body": b"{nope"}, HTTP, None),
        ({"data": b"x"}, {"data": {"content-type": ""}}, None),
        ({}, {}, None),
        (None, {}, None),
    ],
)
def test_which_requests_are_calls(request_: Any, headers: Any, call: OipCall | None) -> None:
    assert oip_call(request_, headers, grpc=headers is not HTTP) == call


def test_options_are_parameters_or_inputs() -> None:
    option = {"name": "masks", "datatype": "BYTES", "shape": [1], "data": ["none"]}
    body = {"inputs": [IMAGE, option], "parameters": {"max_detections": 3}}
    expected: dict[str, Any] = {"image": "aGk=", "masks": "none", "max_detections": 3}
    assert as_plain_json(body, grpc=False) == expected
    option["data"] = [base64.b64encode(b"none").decode()]
    assert as_plain_json(body, grpc=True) == {**expected, "masks": b"none"}


@pytest.mark.parametrize("inputs", [None, [], [5], [{}], [{**IMAGE, "data": []}], [{"name": "a"}]])
def test_without_an_image(inputs: Any) -> None:
    with pytest.raises(EmptyRequest, match="expected one named 'image' of datatype BYTES"):
        as_plain_json({"inputs": inputs}, grpc=True)


def test_an_input_that_is_not_one_value() -> None:
    with pytest.raises(InvalidOption, match="'masks', expected one value"):
        as_plain_json({"inputs": [IMAGE, {"name": "masks", "data": ["a", "b"]}]}, grpc=False)


def test_answers() -> None:
    def data(grpc: bool, kind: str, reply: bytes) -> Any:
        answer = json.loads(OipCall("7", grpc).wrapped(kind, reply, "shapes", "1.0"))
        (output,) = answer.pop("outputs")
        assert answer == {"id": "7", "model_name": "shapes", "model_version": "1.0"}
        return output["data"][0]

    assert data(True, "application/json", b'{"a":1}') == {"a": 1}
    assert data(False, "application/json", b'{"a":1}') == '{"a":1}'
    picture = {"content_type": "image/png", "picture": "/w=="}
    assert data(True, "image/png", b"\xff") == picture
    assert json.loads(data(False, "image/png", b"\xff")) == picture
