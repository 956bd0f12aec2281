"""The same request in every shape in which a server hands it over, and what it cannot be."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
import pytest

from d2serve.handlers.errors import EmptyRequest, ImageTooLarge, InvalidImage, InvalidOption
from d2serve.handlers.requests.fields import RequestFields, read_fields
from d2serve.handlers.requests.images import ImageFile, read_pixels
from d2serve.handlers.requests.request import Request, classify
from d2serve.handlers.spec.image_form import COLOUR
from d2serve.handlers.spec.limits import RequestLimits
from tests.handlers.samples import picture, saved

BASE64 = base64.b64encode(b"the image").decode()
FILE = ImageFile(b"the image")


def read(body: Any = None, fields: Any = None, **headers: Any) -> RequestFields:
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    request = Request(body, fields or {}, {"Host": "127.0.0.1", **headers})
    read = read_fields(classify(request))
    return RequestFields(ImageFile(bytes(read.image.load(COLOUR))), read.options, read.outputs)


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_an_image_alone(kind: Any) -> None:
    assert read(kind(b"the image")) == RequestFields(FILE, {})


def test_options_beside_it() -> None:
    form = read(b"the image", {"masks": b"none"})
    assert form == RequestFields(FILE, {"masks": b"none"})
    json = read({"image": BASE64, "masks": "none"})
    assert json == RequestFields(FILE, {"masks": "none"})
    for spelling in ("X_D2serve_Masks", "x_d2serve_masks", "X_D2SERVE_MASKS"):
        headers = read(b"the image", **{spelling: "none"})
        assert headers == RequestFields(FILE, {"masks": "none"})


def test_other_headers_are_none() -> None:
    got = read(b"x", Masks="none", X_D2serv_Masks="none", X_D2serve_Score_Thresh="1")
    assert got.options == {"score_thresh": "1"}


@pytest.mark.parametrize(
    ("body", "fields"),
    [(b"x", {"masks": b"none"}), ({"image": BASE64, "masks": "none"}, {})],
)
def test_an_option_twice(body: Any, fields: Any) -> None:
    with pytest.raises(InvalidOption, match="option 'masks' twice"):
        read(body, fields, X_D2serve_Masks="rle")


def test_base64_with_line_ends() -> None:
    wrapped = base64.encodebytes(bytes(200)).decode()
    assert read({"image": wrapped.replace("\n", "\r\n")}).image == ImageFile(bytes(200))


@pytest.mark.parametrize("image", ["a", "naïve", "a b=", "data:image/png,AAAA", "/x/y.jpg", "a=b="])
def test_what_is_no_base64(image: str) -> None:
    with pytest.raises(InvalidImage, match="no base64"):
        read({"image": image})


@pytest.mark.parametrize("image", [None, "", 5, ["a"], {"url": "http://127.0.0.1/"}])
def test_json_without_an_image(image: Any) -> None:
    with pytest.raises(EmptyRequest, match="expected an image file in base64"):
        read({"image": image})


@pytest.mark.parametrize("ends", ["", "\r\n"])
def test_base64_is_measured_before_it_is_decoded(ends: str) -> None:
    file = saved(picture(40, 30), "PNG")
    text = base64.b64encode(file).decode()
    lines = ends.join(text[i : i + 76] for i in range(0, len(text), 76))
    image = read_fields(classify(Request({"image": lines}))).image
    assert image.size == len(file)
    assert read_pixels(image, RequestLimits(max_image_bytes=len(file))).pixels.shape == (30, 40, 3)
    too_small = RequestLimits(max_image_bytes=len(file) - 1)
    with pytest.raises(ImageTooLarge, match=f"expected at most {len(file) - 1:,}"):
        read_pixels(image, too_small)


@pytest.mark.parametrize("count", range(5))
def test_the_size_of_base64_is_that_of_the_file(count: int) -> None:
    text = base64.b64encode(bytes(count + 1)).decode()
    assert read_fields(classify(Request({"image": text}))).image.size == count + 1


@pytest.mark.parametrize(
    ("body", "name"), [([1], "list"), ("text", "text"), (5, "int"), (True, "bool")]
)
def test_other_bodies(body: Any, name: str) -> None:
    with pytest.raises(EmptyRequest, match=f"Got a {name}, expected the bytes"):
        read(body)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"instances": [{"b64": "AAAA"}]}, "'instances'.*KServe's version 1.*holds one image"),
        ({"data": "AAAA"}, r"with \['data'\] and without 'image'"),
        ({"images": ["AAAA", "AAAA"]}, "One request holds one image"),
        ({"image": ["AAAA", "AAAA"]}, "no text but a list.*One request holds one image"),
        ({"image": {"b64": "AAAA"}}, "no text but a JSON object"),
        ({"url": "http://127.0.0.1/a.jpg"}, "Nothing is fetched"),
        (["AAAA", "AAAA"], "Got a list.*One request holds one image"),
        ({}, "nothing in it"),
    ],
)
def test_other_servers_forms_are_refused_with_the_right_one(body: Any, words: str) -> None:
    with pytest.raises(EmptyRequest, match=words) as caught:
        read(body)
    assert '{"image": "..."}' in str(caught.value)


@pytest.mark.parametrize("count", range(1, 9))
@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode])
@pytest.mark.parametrize(
    "form", ["{}", "data:image/jpeg;base64,{}", " Data:;charset=x;BASE64,{} ", "\n{}\n"]
)
def test_base64_as_people_have_it(count: int, encode: Any, form: str) -> None:
    data = bytes(range(256 - count, 256))
    text = encode(data).decode()
    for each in (text, text.rstrip("=")):
        image = read_fields(classify(Request({"image": form.format(each)}))).image
        assert image.size == len(data)
        assert image.load(COLOUR) == data


def test_no_body() -> None:
    with pytest.raises(EmptyRequest, match=r"Got the fields \['masks'\], expected an image file"):
        read(None, {"masks": "none"})


class TestArrays:
    def test_pixels(self) -> None:
        pixels = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
        image = read_fields(classify(Request(pixels))).image
        assert read_pixels(image, RequestLimits(max_image_bytes=1)).pixels is pixels
        with pytest.raises(ImageTooLarge, match="4x2 pixels, expected at most 7"):
            read_pixels(image, RequestLimits(max_image_pixels=7))

    @pytest.mark.parametrize(
        "wrong",
        [
            np.zeros((2, 4), np.uint8),
            np.zeros((2, 4, 4), np.uint8),
            np.zeros((1, 2, 4, 3), np.uint8),
            np.zeros((0, 4, 3), np.uint8),
            np.zeros((2, 4, 3), np.float32),
        ],
    )
    def test_arrays_that_are_no_pixels(self, wrong: Any) -> None:
        with pytest.raises(InvalidImage, match=r"expected \(height, width, 3\) uint8 in RGB"):
            read_pixels(read_fields(classify(Request(wrong))).image, RequestLimits())
