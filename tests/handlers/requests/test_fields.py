"""The same request in every shape in which TorchServe hands it over, and what it cannot be."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from d2serve.handlers.errors import EmptyRequest, ImageTooLarge, InvalidImage, InvalidOption
from d2serve.handlers.requests.fields import RequestFields, is_grpc, read_fields
from d2serve.handlers.spec.limits import DEFAULT_LIMITS, RequestLimits

HTTP = {"Host": "127.0.0.1", "data": {"content-type": ""}}
BASE64 = base64.b64encode(b"the image").decode()


def read(request: dict[str, Any], **headers: Any) -> RequestFields:
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    return read_fields(request, {**HTTP, **headers}, DEFAULT_LIMITS)


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
@pytest.mark.parametrize("name", ["data", "body"])
def test_an_image_alone(name: str, kind: Any) -> None:
    assert read({name: kind(b"the image")}) == RequestFields(b"the image", {})


def test_options_beside_it() -> None:
    form = read({"data": b"the image", "masks": b"none", "model_name": b"shapes"})
    assert form == RequestFields(b"the image", {"masks": b"none"})
    json = read({"body": {"image": BASE64, "masks": "none"}})
    assert json == RequestFields(b"the image", {"masks": "none"})
    for spelling in ("X_D2serve_Masks", "x_d2serve_masks", "X_D2SERVE_MASKS"):
        headers = read({"body": b"the image"}, **{spelling: "none"})
        assert headers == RequestFields(b"the image", {"masks": "none"})


def test_other_headers_are_none() -> None:
    got = read({"body": b"x"}, Masks="none", X_D2serv_Masks="none", X_D2serve_Score_Thresh="1")
    assert got.options == {"score_thresh": "1"}


@pytest.mark.parametrize(
    "request_",
    [
        {"data": b"x", "masks": b"none"},
        {"body": {"image": BASE64, "masks": "none"}},
    ],
)
def test_an_option_twice(request_: dict[str, Any]) -> None:
    with pytest.raises(InvalidOption, match="option 'masks' twice"):
        read(request_, X_D2serve_Masks="rle")


def test_base64_with_line_ends() -> None:
    wrapped = base64.encodebytes(bytes(200)).decode()
    assert read({"body": {"image": wrapped.replace("\n", "\r\n")}}).image == bytes(200)


@pytest.mark.parametrize("image", ["=", "abc", "naïve", "a b=", "data:image/png;base64,AAAA", "/x"])
def test_what_is_no_base64(image: str) -> None:
    with pytest.raises(InvalidImage, match="no base64"):
        read({"body": {"image": image}})


@pytest.mark.parametrize("image", [None, "", 5, ["a"], {"url": "http://127.0.0.1/"}])
def test_json_without_an_image(image: Any) -> None:
    with pytest.raises(EmptyRequest, match="expected an image file in base64"):
        read({"body": {"image": image}})


def test_base64_is_measured_before_it_is_decoded() -> None:
    limits = RequestLimits(max_image_bytes=9)
    assert read_fields({"body": {"image": BASE64}}, HTTP, limits).image == b"the image"
    with pytest.raises(ImageTooLarge, match="expected at most 9"):
        read_fields({"body": {"image": BASE64 * 2}}, HTTP, limits)


@pytest.mark.parametrize("body", [[1], "text", 5, True])
def test_other_bodies(body: Any) -> None:
    with pytest.raises(EmptyRequest, match=f"Got a {type(body).__name__}, expected the bytes"):
        read({"body": body})


@pytest.mark.parametrize(
    ("headers", "grpc"),
    [
        ({}, True),
        ({"data": {"content-type": ""}}, True),
        ({"data": {"content-type": ""}, "ts_request_sequence_id": "1"}, True),
        (HTTP, False),
        ({"content-length": "0", "body": {"content-type": ""}}, False),
    ],
)
def test_grpc_is_told_by_its_headers(headers: dict[str, Any], grpc: bool) -> None:
    assert is_grpc(headers) is grpc
