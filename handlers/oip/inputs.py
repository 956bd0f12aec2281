"""Why: what KServe's clients put into the inputs of a call is the same request as any other.

One input is the image: a file, of type BYTES, or its pixels, of type UINT8. Every other input and
every parameter is an option; the input ``outputs`` names the outputs wanted, for gRPC, where the
call's own list of them does not arrive.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Union

import numpy as np
import numpy.typing as npt

from d2serve.handlers.errors import EmptyRequest, ImageTooLarge, InvalidImage, InvalidOption
from d2serve.handlers.oip.calls import RAW, is_id
from d2serve.handlers.oip.tensors import UINT8, Tensor, read_tensor
from d2serve.handlers.replies.fields import BYTES
from d2serve.handlers.requests.decoding import check_bytes
from d2serve.handlers.spec.limits import RequestLimits

Image = Union[str, bytes, npt.NDArray[np.uint8]]

_IMAGE_INPUTS = ("image", "data")
_OUTPUTS = "outputs"
_MOST_VALUES = 10_000
# Answers are JSON. Clients that would rather have them in binary read that as well.
_ABOUT_ENCODING = ("binary_data_output", "binary_data")


@dataclass(frozen=True)
class OipRequest:
    """What a call asks."""

    image: Image
    """A file as bytes or in base64, or (H, W, 3) pixels in RGB order."""
    options: Mapping[str, Any]
    outputs: tuple[str, ...] | None
    """Those asked for, by name, none of them checked."""


def read_call(body: Mapping[str, Any], grpc: bool, limits: RequestLimits) -> OipRequest:
    """What the body of a call asks.

    Args:
        body: the JSON of a call, as ``unpacked`` returns it.
        grpc: whether bytes are in base64 in it.
        limits: of the image.

    Raises:
        EmptyRequest: there is no image among the inputs.
        InvalidImage, ImageTooLarge: that input is none, or too large.
        InvalidOption: something else in the call is wrong.
    """
    if body.get("id") is not None and not is_id(body["id"]):
        raise InvalidOption("Got an id that is no text of at most 1,000 characters.")
    inputs = body.get("inputs")
    if not isinstance(inputs, list) or not all(isinstance(each, Mapping) for each in inputs):
        raise EmptyRequest("Got no list of inputs, expected objects, one of them the image.")
    chosen = _image_among(inputs)
    options, outputs = _parameters(body), _names_of_outputs(body.get(_OUTPUTS))
    raw = body.get(RAW)
    raw = raw if isinstance(raw, memoryview) else memoryview(b"")
    image: Image = ""
    for given in inputs:
        is_image = given is chosen
        tensor, raw = read_tensor(given, raw, InvalidImage if is_image else InvalidOption)
        if is_image:
            image = _image(tensor, limits)
        elif tensor.name == _OUTPUTS:
            outputs = _once(_OUTPUTS, outputs, tuple(map(_as_text, _values(tensor, grpc))))
        else:
            values = _values(tensor, grpc)
            value = values[0] if len(values) == 1 else [_as_text(each) for each in values]
            options[tensor.name] = _once(tensor.name, options.get(tensor.name), value)
    if len(raw):
        raise InvalidOption(f"Got {len(raw)} binary bytes that belong to no input.")
    return OipRequest(image, options, outputs)


def _image_among(inputs: list[Mapping[str, Any]]) -> Mapping[str, Any]:
    named = [each for each in inputs if each.get("name") in _IMAGE_INPUTS]
    if len(named) != 1 and (named or len(inputs) != 1):
        raise EmptyRequest(
            f"Got {len(inputs)} inputs, {len(named)} of them named 'image' or 'data', expected one "
            "of them. One request holds one image: the server makes batches itself."
        )
    return (named or inputs)[0]


def _image(tensor: Tensor, limits: RequestLimits) -> Image:
    if tensor.datatype == UINT8:
        return _pixels(tensor, limits)
    if tensor.datatype != BYTES or tensor.count != 1:
        raise InvalidImage(
            f"Got {tensor.shown} of {tensor.datatype} and shape {list(tensor.shape)}, expected an "
            "image file, BYTES of shape [1] (in JSON: in base64), or one image's pixels, UINT8 of "
            "shape [height, width, 3] in RGB order."
        )
    (element,) = tensor.elements()
    if not isinstance(element, (str, bytes)) or not element:
        raise EmptyRequest(
            f"Got {tensor.shown} whose one element is no text or empty, expected an image file, in "
            "JSON in base64."
        )
    return element


def _pixels(tensor: Tensor, limits: RequestLimits) -> npt.NDArray[np.uint8]:
    shape = tensor.shape[1:] if len(tensor.shape) == 4 and tensor.shape[0] == 1 else tensor.shape
    if len(shape) != 3 or shape[2] != 3 or not tensor.count:
        raise InvalidImage(
            f"Got {tensor.shown} of shape {list(tensor.shape)}, expected pixels of one image, "
            "[height, width, 3] or [1, height, width, 3], in RGB order. The server makes batches "
            "itself."
        )
    height, width, _ = shape
    if height * width > limits.max_image_pixels:
        raise ImageTooLarge(
            f"Got an image of {width}x{height} pixels, expected at most "
            f"{limits.max_image_pixels:,} pixels. Scale it down: the model resizes it anyway."
        )
    check_bytes(tensor.count, limits)
    if isinstance(tensor.data, memoryview):
        tensor.check_size(1)
        return np.frombuffer(tensor.data, np.uint8).reshape(shape)
    values = tensor.numbers()
    try:
        if set(map(type, values)) == {int}:
            return np.frombuffer(bytes(values), np.uint8).reshape(shape)
    except (ValueError, OverflowError):
        pass
    raise InvalidImage(f"Got {tensor.shown} with other values than whole numbers from 0 to 255.")


def _parameters(body: Mapping[str, Any]) -> dict[str, Any]:
    given = body.get("parameters")
    if given is not None and not isinstance(given, Mapping):
        raise InvalidOption("Got parameters that are no object, expected options by their names.")
    return {name: each for name, each in (given or {}).items() if name not in _ABOUT_ENCODING}


def _names_of_outputs(given: Any) -> tuple[str, ...] | None:
    """Of the list of outputs that HTTP has; ``[]`` asks for none in particular."""
    if not given and (given is None or isinstance(given, list)):
        return None
    names = list[str]()
    for each in given if isinstance(given, list) else [given]:
        name = each.get("name") if isinstance(each, Mapping) else None
        parameters = each.get("parameters") or {} if isinstance(each, Mapping) else None
        if (
            not isinstance(name, str)
            or not isinstance(parameters, Mapping)
            or set(parameters) - set(_ABOUT_ENCODING)
        ):
            raise InvalidOption(
                'Got outputs that are not [{"name": "boxes"}, ...], with no parameters but '
                "binary_data."
            )
        names.append(name)
    return tuple(names)


def _values(tensor: Tensor, grpc: bool) -> list[Any]:
    """The values of an input that is no image: texts or bytes, numbers, true or false."""
    if not 1 <= tensor.count <= _MOST_VALUES:
        raise InvalidOption(
            f"Got {tensor.shown} with {tensor.count} values, expected one, or a few in a list."
        )
    if tensor.datatype != BYTES:
        values = tensor.numbers()
        if any(type(each) not in (bool, int, float) for each in values):
            raise InvalidOption(f"Got {tensor.shown} with values that are not {tensor.datatype}.")
        return values
    values = tensor.elements()
    if any(not isinstance(each, (str, bytes)) for each in values):
        raise InvalidOption(f"Got {tensor.shown} with values that are no text.")
    if not grpc:
        return values
    try:
        return [base64.b64decode(each, validate=True) for each in values]
    except (binascii.Error, ValueError):
        raise InvalidOption(f"Got {tensor.shown} with values that are no base64.") from None


def _as_text(value: Any) -> Any:
    return value.decode("utf-8", errors="replace") if isinstance(value, bytes) else value


def _once(name: str, before: Any, value: Any) -> Any:
    if before is not None:
        raise InvalidOption(f"Got the option {name[:40]!a} twice, expected it once.")
    return value
