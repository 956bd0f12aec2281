"""A request is read the same over every transport, before any model is asked."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from PIL import Image

from d2serve.handlers.errors import InvalidOption
from d2serve.handlers.reading import read_request
from d2serve.handlers.requests.request import GRPC, HTTP, INFER, Request, classify
from tests.handlers.samples import saved, spec_with

IMAGE = saved(Image.new("RGB", (30, 20)), "PNG")
BASE64 = base64.b64encode(IMAGE).decode()
TENSOR = {"name": "image", "datatype": "BYTES", "shape": [1], "data": [BASE64]}
# The class of id 0 is called as the id of another one.
SPEC = spec_with(class_names=("2", "circle", "square"))


def _infer(text: str, grpc: bool = False) -> Request:
    data = base64.b64encode(text.encode()).decode() if grpc else text
    option = {"name": "classes", "datatype": "BYTES", "shape": [1], "data": [data]}
    kind, transport = (INFER, GRPC) if grpc else (None, HTTP)
    return Request({"inputs": [TENSOR, option]}, kind=kind, transport=transport)


TRANSPORTS: dict[str, Any] = {
    "form": lambda text: Request(IMAGE, {"classes": text.encode()}, transport=HTTP),
    "header": lambda text: Request(IMAGE, headers={"X-D2serve-Classes": text}, transport=HTTP),
    "JSON": lambda text: Request({"image": BASE64, "classes": text}, transport=HTTP),
    "gRPC": lambda text: Request(IMAGE, {"classes": text.encode()}, transport=GRPC),
    "OIP parameter": lambda text: Request(
        {"inputs": [TENSOR], "parameters": {"classes": text}}, transport=HTTP
    ),
    "OIP input": _infer,
    "OIP input over gRPC": lambda text: _infer(text, grpc=True),
    "in-process": lambda text: Request(IMAGE, {"classes": text}),
}


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("2", None),
        ("circle,2", None),
        ('["2"]', {0}),
        ("[2]", {2}),
        ('["2", 2]', {0, 2}),
        ("1", {1}),
        ("square,0", {0, 2}),
    ],
)
def test_names_and_ids_of_classes(transport: str, text: str, ids: set[int] | None) -> None:
    call = classify(TRANSPORTS[transport](text))
    if ids is None:
        with pytest.raises(InvalidOption, match="the name of a class and the id of another one"):
            read_request(call, SPEC)
    else:
        assert read_request(call, SPEC).options.classes == frozenset(ids)


@pytest.mark.parametrize(
    "body",
    [
        {"image": BASE64, "classes": 2},
        {"inputs": [TENSOR], "parameters": {"classes": 2}},
        {"inputs": [TENSOR, {"name": "classes", "datatype": "INT64", "shape": [1], "data": [2]}]},
    ],
)
def test_a_number_is_an_id(body: Any) -> None:
    assert read_request(classify(Request(body)), SPEC).options.classes == frozenset({2})
