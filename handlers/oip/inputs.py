"""Reads the inputs of a call of the Open Inference Protocol as the same parts as any request has.

One input is the image: a file, of type BYTES, or its pixels, of type UINT8. Every other input and
every parameter is an option. The input ``outputs`` names the outputs wanted, for servers whose gRPC
does not hand over the call's own list of them.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from d2serve.handlers.errors import EmptyRequest, InvalidImage, InvalidOption
from d2serve.handlers.oip.outputs import ALL_BINARY, BINARY_OUTPUT
from d2serve.handlers.oip.tensors import UINT8, Tensor, read_tensor
from d2serve.handlers.replies.fields import BYTES
from d2serve.handlers.requests.fields import RequestFields, add_option, options_beside
from d2serve.handlers.requests.images import Base64File, ImageFile, Pixels, SentImage
from d2serve.handlers.requests.request import Call, is_id
from d2serve.handlers.spec.image_form import COLOUR, ImageForm

# Pixels have a name of their own where an input can have one type only: in Triton.
_IMAGE_INPUTS = ("image", "data", "pixels")
_OUTPUTS = "outputs"
_MOST_VALUES = 10_000
_ABOUT_ENCODING = (ALL_BINARY, BINARY_OUTPUT)


@dataclass(frozen=True)
class PixelTensor:
    """Pixels as a tensor of UINT8, [height, width, channels] or [1, height, width, channels]."""

    tensor: Tensor

    @property
    def size(self) -> int:
        return self.tensor.count

    @property
    def shape(self) -> tuple[int, int]:
        height, width, _ = self.tensor.shape[-3:]
        return height, width

    def load(self, _form: ImageForm) -> Pixels:
        tensor, shape = self.tensor, self.tensor.shape[-3:]
        if isinstance(tensor.data, memoryview):
            tensor.check_size(1)
            return np.frombuffer(tensor.data, np.uint8).reshape(shape)
        values = tensor.numbers()
        try:
            if set(map(type, values)) == {int}:
                return np.frombuffer(bytes(values), np.uint8).reshape(shape)
        except (ValueError, OverflowError):
            pass
        raise InvalidImage(
            f"Got {tensor.shown} with other values than whole numbers from 0 to 255."
        )


def read_call(call: Call, form: ImageForm = COLOUR) -> RequestFields:
    """The parts of a call.

    Args:
        call: of the Open Inference Protocol.
        form: of the images that the model takes.

    Raises:
        EmptyRequest: there is no image among the inputs.
        InvalidImage: that input is none.
        InvalidOption: something else in the call is wrong.
    """
    options, body = options_beside(call), call.body
    if not isinstance(body, Mapping):
        raise EmptyRequest(
            f"Got a {type(body).__name__} that is no JSON object, expected a call of the Open "
            "Inference Protocol, with a list of inputs."
        )
    if body.get("id") is not None and not is_id(body["id"]):
        raise InvalidOption("Got an id that is no text of at most 1,000 characters.")
    inputs = body.get("inputs")
    if not isinstance(inputs, list) or not all(isinstance(each, Mapping) for each in inputs):
        raise EmptyRequest(
            'Got "inputs" that are no list of objects, expected one of them to be the image: '
            '{"name": "image", "datatype": "BYTES", "shape": [1], "data": ["<base64>"]}. For a '
            'prediction in d2serve\'s own form send {"image": "<base64>"}.'
        )
    chosen = _image_among(inputs)
    for name, value in _parameters(body).items():
        add_option(options, name, value)
    outputs, contents = _names_of_outputs(body.get(_OUTPUTS)), call.contents
    image: SentImage | None = None
    for given in inputs:
        is_image = given is chosen
        tensor, contents = read_tensor(given, contents, InvalidImage if is_image else InvalidOption)
        if is_image:
            image = _image(tensor, form)
        elif tensor.name != _OUTPUTS:
            values = _values(tensor, call.grpc)
            value = values[0] if len(values) == 1 else [_as_text(each) for each in values]
            add_option(options, tensor.name, value)
        elif outputs is None:
            outputs = tuple(map(_as_text, _values(tensor, call.grpc)))
        else:
            raise InvalidOption(f"Got the option {_OUTPUTS!a} twice, expected it once.")
    if len(contents):
        raise InvalidOption(f"Got {len(contents)} binary bytes that belong to no input.")
    assert image is not None  # it is among the inputs
    return RequestFields(image, options, outputs)


def _image_among(inputs: list[Mapping[str, Any]]) -> Mapping[str, Any]:
    named = [each for each in inputs if each.get("name") in _IMAGE_INPUTS]
    if len(named) != 1 and (named or len(inputs) != 1):
        raise EmptyRequest(
            f"Got {len(inputs)} inputs, {len(named)} of them named 'image', 'data' or 'pixels', "
            "expected one of them. One request holds one image: the server makes batches itself."
        )
    return (named or inputs)[0]


def _image(tensor: Tensor, form: ImageForm) -> SentImage:
    if tensor.datatype == UINT8:
        return _pixel_tensor(tensor, form)
    if tensor.datatype != BYTES or tensor.count != 1:
        raise InvalidImage(
            f"Got {tensor.shown} of {tensor.datatype} and shape {list(tensor.shape)}, expected an "
            "image file, BYTES of shape [1] (in JSON: in base64), or one image's pixels, UINT8 of "
            f"shape [height, width, {form.channels}] {form.order}."
        )
    (element,) = tensor.elements()
    if not isinstance(element, (str, bytes)) or not element:
        raise EmptyRequest(
            f"Got {tensor.shown} whose one element is no text or empty, expected an image file, in "
            "JSON in base64."
        )
    return Base64File(element) if isinstance(element, str) else ImageFile(element)


def _pixel_tensor(tensor: Tensor, form: ImageForm) -> PixelTensor:
    shape = tensor.shape[1:] if len(tensor.shape) == 4 and tensor.shape[0] == 1 else tensor.shape
    if len(shape) != 3 or shape[2] != form.channels or not tensor.count:
        channels = form.channels
        raise InvalidImage(
            f"Got {tensor.shown} of shape {list(tensor.shape)}, expected pixels of one image, "
            f"[height, width, {channels}] or [1, height, width, {channels}], {form.order}. The "
            "server makes batches itself."
        )
    return PixelTensor(tensor)


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
