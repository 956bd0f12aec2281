"""Reads the parts of a request, which are the same as a form, as JSON, as gRPC or as headers.

The image is the body, or ``image`` (base64) of a JSON object. Everything beside it is an option, by
its own name or, in a header, behind ``X-D2serve-``. Their names and values are not checked here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from d2serve.handlers.errors import EmptyRequest, InvalidOption
from d2serve.handlers.requests.bodies.content_types import FORM, MULTIPART, content_type
from d2serve.handlers.requests.images import Base64File, ImageFile, PixelArray, SentImage
from d2serve.handlers.requests.request import Call

HEADER_PREFIX = "x-d2serve-"

_BYTES = (bytes, bytearray, memoryview)
_FORM = '{"image": "..."}'
_KINDS = {str: "text", list: "list", dict: "JSON object", type(None): "null"}
"""What JSON calls a Python type."""
_ONE_IMAGE = " One request holds one image: the server makes batches itself."
_NOT_FETCHED = " Nothing is fetched from an address."
_TAKEN_FOR_A_FORM = (
    f"Got a body of the content type {FORM}, which is what curl says of a body where it is told "
    "nothing, and no image in it: a server cuts such a body up. Say what it is: of an image file "
    '-H "Content-Type: image/jpeg", of JSON -H "Content-Type: application/json". Or send the file '
    "as a field of a form: -F data=@photo.jpg."
)
_WITHOUT_BOUNDARY = (
    f"Got a body of the content type {MULTIPART} that no server has taken apart, most likely for "
    "want of the boundary that belongs to the header. Leave the header out: what makes the form "
    "(curl -F, FormData, requests' files) writes it."
)
_OF_OTHERS = {
    "instances": " 'instances' are KServe's version 1 and TensorFlow Serving." + _ONE_IMAGE,
    "images": _ONE_IMAGE,
    "url": _NOT_FETCHED,
    "image_url": _NOT_FETCHED,
}
"""What to say of the fields of other servers' requests."""


@dataclass(frozen=True)
class RequestFields:
    """The parts of one request, none of them checked."""

    image: SentImage
    options: Mapping[str, Any]
    """By name: text, bytes, what JSON has or Python values."""
    outputs: tuple[str, ...] | None = None
    """Those that a call of the Open Inference Protocol asks for; None where it names none."""


def read_fields(call: Call) -> RequestFields:
    """The parts of a request for a prediction.

    Raises:
        EmptyRequest: it has no image.
        InvalidOption: it has an option twice.
    """
    options = options_beside(call)
    body = call.body
    if isinstance(body, Mapping):
        for name, value in body.items():
            if name != "image":
                add_option(options, name, value)
        return RequestFields(_base64_file(body), options)
    return RequestFields(_image(call), options)


def options_beside(call: Call) -> dict[str, Any]:
    """The options that came beside the body: in fields and in headers.

    Raises:
        InvalidOption: one came twice.
    """
    options = dict(call.fields)
    for name, value in call.headers.items():
        if name.lower().startswith(HEADER_PREFIX):
            add_option(options, name.lower()[len(HEADER_PREFIX) :].replace("-", "_"), value)
    return options


def add_option(options: dict[str, Any], name: str, value: Any) -> None:
    """Add an option to those that have been read.

    Raises:
        InvalidOption: it is there already.
    """
    if name in options:
        raise InvalidOption(f"Got the option {name[:40]!a} twice, expected it once.")
    options[name] = value


def _image(call: Call) -> SentImage:
    body = call.body
    kind, start = content_type(call.headers), body[:2] if isinstance(body, _BYTES) else None
    starts_as_json = start is not None and bytes(start[:1]) == b"{"
    if kind == FORM and (body is None or starts_as_json):
        raise EmptyRequest(_TAKEN_FOR_A_FORM)
    if kind == MULTIPART and start == b"--":
        raise EmptyRequest(_WITHOUT_BOUNDARY)
    if body is None:
        names = [str(name)[:40] for name in call.fields]
        raise EmptyRequest(
            f"Got the fields {sorted(names)[:5]!a}, expected an image file as the body, as the "
            "multipart field 'data', as the gRPC input 'data' or in base64 as 'image' of JSON."
        )
    if isinstance(body, np.ndarray):
        return PixelArray(body)
    if not isinstance(body, _BYTES):
        raise EmptyRequest(
            f"Got a {_KINDS.get(type(body), type(body).__name__)}, expected the bytes of an image "
            f"file, or a JSON object with them in base64: {_FORM}.{_only_one(body)}"
        )
    if starts_as_json:
        raise EmptyRequest(
            f"Got {len(body)} bytes that start as JSON and are not valid JSON, as far as the "
            "header Inference-Header-Content-Length says, if it is there."
        )
    return ImageFile(bytes(body))


def _base64_file(body: Mapping[Any, Any]) -> SentImage:
    image = body.get("image")
    if isinstance(image, str) and image:
        return Base64File(image)
    if image is None:
        others = [str(name)[:40] for name in body]
        got = f"with {others[:5]!a} and without 'image'" if others else "with nothing in it"
    else:
        got = f"whose 'image' is no text but a {_KINDS.get(type(image), type(image).__name__)}"
    hint = next((hint for name, hint in _OF_OTHERS.items() if image is None and name in body), "")
    raise EmptyRequest(
        f"Got a JSON object {got}, expected an image file in base64: {_FORM}, and options beside "
        f"it.{hint or _only_one(image)}"
    )


def _only_one(value: Any) -> str:
    return _ONE_IMAGE if isinstance(value, list) else ""
