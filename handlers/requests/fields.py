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
from d2serve.handlers.requests.images import Base64File, ImageFile, PixelArray, SentImage
from d2serve.handlers.requests.request import Call

HEADER_PREFIX = "x-d2serve-"


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
        return RequestFields(_base64_file(body.get("image")), options)
    return RequestFields(_image(body, call.fields), options)


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


def _image(body: Any, fields: Mapping[str, Any]) -> SentImage:
    if body is None:
        raise EmptyRequest(
            f"Got the fields {sorted(map(str, fields))}, expected an image file as the body, as "
            "the multipart field 'data', as the gRPC input 'data' or in base64 as 'image' of JSON."
        )
    if isinstance(body, np.ndarray):
        return PixelArray(body)
    if not isinstance(body, (bytes, bytearray, memoryview)):
        raise EmptyRequest(
            f"Got a {type(body).__name__}, expected the bytes of an image file, or a JSON object "
            'with them in base64: {"image": "..."}.'
        )
    if body[:1] == b"{":
        raise EmptyRequest(
            f"Got {len(body)} bytes that start as JSON and are not valid JSON, as far as the "
            "header Inference-Header-Content-Length says, if it is there."
        )
    return ImageFile(bytes(body))


def _base64_file(image: Any) -> SentImage:
    if not isinstance(image, str) or not image:
        raise EmptyRequest(
            f"Got a JSON object whose 'image' is {'absent' if image is None else 'no text'}, "
            'expected an image file in base64: {"image": "..."}, and options beside it.'
        )
    return Base64File(image)
