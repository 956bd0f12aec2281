"""Why: a request says the same whether its parts come as a form, as JSON, as gRPC or as headers.

The image is the body, the field ``data``, or ``image`` (base64) of a JSON object. Everything beside
it is an option, by its own name or, in a header, behind ``X-D2serve-``. Names are not checked here.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from d2serve.handlers.errors import EmptyRequest, InvalidImage, InvalidOption
from d2serve.handlers.oip.inputs import read_call
from d2serve.handlers.requests.decoding import check_bytes
from d2serve.handlers.spec.limits import RequestLimits

HEADER_PREFIX = "x-d2serve-"

_IMAGE_FIELDS = ("data", "body")
# Which TorchServe adds to what comes to /invocations.
_NO_OPTIONS = (*_IMAGE_FIELDS, "model_name")


@dataclass(frozen=True)
class RequestFields:
    """One request, as it came."""

    image: bytes | npt.NDArray[np.uint8]
    """The image file, or (H, W, 3) pixels in RGB order."""
    options: Mapping[str, Any]
    """By name: text, bytes or what JSON has."""
    outputs: tuple[str, ...] | None = None
    """Of the Open Inference Protocol, by name; None where none is asked for in particular."""


def read_fields(request: Any, headers: Mapping[str, Any], limits: RequestLimits) -> RequestFields:
    """The parts of one request.

    Args:
        request: a mapping, as TorchServe gives it: bytes, text or parsed JSON by field name.
        headers: HTTP headers; those that are no text belong to fields.
        limits: of the image's bytes.

    Raises:
        EmptyRequest, InvalidImage, ImageTooLarge, InvalidOption.
    """
    if not isinstance(request, Mapping):
        raise EmptyRequest(f"Got a {type(request).__name__}, expected fields by name.")
    value = request.get("data")
    if value is None:
        value = request.get("body")
    options = {name: each for name, each in request.items() if name not in _NO_OPTIONS}
    for name, header in headers.items():
        if isinstance(header, str) and name.lower().startswith(HEADER_PREFIX):
            _add(options, name.lower()[len(HEADER_PREFIX) :].replace("-", "_"), header)
    if isinstance(value, Mapping) and "inputs" in value:
        call = read_call(value, is_grpc(headers), limits)
        for name, each in call.options.items():
            _add(options, name, each)
        image = _from_base64(call.image, limits) if isinstance(call.image, str) else call.image
        return RequestFields(image, options, call.outputs)
    if isinstance(value, Mapping):
        for name, each in value.items():
            if name != "image":
                _add(options, name, each)
        return RequestFields(_from_base64(value.get("image"), limits), options)
    if value is None:
        raise EmptyRequest(
            f"Got the fields {sorted(map(str, request))}, expected an image file as the body, as "
            "the multipart field 'data', as the gRPC input 'data' or in base64 as 'image' of JSON."
        )
    if not isinstance(value, (bytes, bytearray, memoryview)):
        raise EmptyRequest(
            f"Got a {type(value).__name__}, expected the bytes of an image file, or a JSON object "
            'with them in base64: {"image": "..."}.'
        )
    if value[:1] == b"{":
        raise EmptyRequest(
            f"Got {len(value)} bytes that start as JSON and are not valid JSON, as far as the "
            "header Inference-Header-Content-Length says, if it is there."
        )
    return RequestFields(bytes(value), options)


def is_grpc(headers: Mapping[str, Any]) -> bool:
    """Whether a request came over gRPC: TorchServe gives such no headers but its own."""
    return not any(
        isinstance(value, str) and not name.startswith("ts_") for name, value in headers.items()
    )


def _add(options: dict[str, Any], name: str, value: Any) -> None:
    if name in options:
        raise InvalidOption(f"Got the option {name[:40]!a} twice, expected it once.")
    options[name] = value


def _from_base64(image: Any, limits: RequestLimits) -> bytes:
    if not isinstance(image, str) or not image:
        raise EmptyRequest(
            f"Got a JSON object whose 'image' is {'absent' if image is None else 'no text'}, "
            'expected an image file in base64: {"image": "..."}, and options beside it.'
        )
    check_bytes(len(image) // 4 * 3 - 2, limits)  # at least
    try:
        return base64.b64decode(image.replace("\r", "").replace("\n", ""), validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidImage(
            f"Got an 'image' of {len(image)} characters that is no base64 ({error}). Send the "
            "bytes of an image file in base64, without 'data:', not its path or URL."
        ) from None
