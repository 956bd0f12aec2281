"""Why: a call of the Open Inference Protocol that is answered in another shape ends the worker.

An input of type BYTES holds an image file in base64; every other input and, over HTTP, every
parameter is an option. The one output, ``reply``, holds what would else have been the whole reply.
TorchServe hands gRPC calls over as JSON, without parameters and raw contents, with bytes in base64;
of the answer it takes what an element of BYTES is as JSON, so there the reply stands unquoted.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from d2serve.handlers.errors import EmptyRequest, InvalidOption

_JSON = "application/json"
_IMAGE_INPUTS = ("image", "data")


@dataclass(frozen=True)
class OipCall:
    """That a request came by this protocol, and what its answer has to repeat."""

    id: str
    grpc: bool

    def wrapped(self, content_type: str, reply: bytes, model: str, version: str) -> bytes:
        """A reply in the protocol's shape; a picture becomes base64 in JSON."""
        if content_type != _JSON:
            picture = base64.b64encode(reply).decode("ascii")
            reply = orjson.dumps({"content_type": content_type, "picture": picture})
        element = orjson.Fragment(reply) if self.grpc else reply.decode("utf-8")
        output = {"name": "reply", "datatype": "BYTES", "shape": [1], "data": [element]}
        return orjson.dumps(
            {"id": self.id, "model_name": model, "model_version": version, "outputs": [output]}
        )


def oip_call(request: Any, headers: Mapping[str, Any], grpc: bool) -> OipCall | None:
    """The protocol's call that a request is, if it is one; whatever is wrong with it."""
    body = request.get("body") if isinstance(request, Mapping) else None
    kind = headers.get("body")
    # An input of TorchServe's own gRPC calls has no content type.
    by_grpc = grpc and isinstance(kind, Mapping) and kind.get("content-type") == _JSON
    if by_grpc or (isinstance(body, Mapping) and "inputs" in body):
        name = body.get("id") if isinstance(body, Mapping) else None
        return OipCall(name if isinstance(name, str) else "", by_grpc)
    return None


def as_plain_json(body: Mapping[str, Any], grpc: bool) -> dict[str, Any]:
    """The same request as a JSON object of an ``image`` and options.

    Raises:
        EmptyRequest: there is no image among the inputs.
        InvalidOption: an input is not one value.
    """
    inputs = [each for each in _list(body.get("inputs")) if isinstance(each, Mapping)]
    named = [each for each in inputs if each.get("name") in _IMAGE_INPUTS]
    image = (named or inputs)[0] if named or len(inputs) == 1 else {}
    data = _list(image.get("data"))
    if image.get("datatype") != "BYTES" or len(data) != 1:
        raise EmptyRequest(
            f"Got {len(inputs)} inputs, expected one named 'image' of datatype BYTES and shape [1] "
            "with an image file (in JSON: in base64; over gRPC: in contents, not in raw contents)."
        )
    parameters = body.get("parameters")
    plain = dict(parameters) if isinstance(parameters, Mapping) else {}
    for each in inputs:
        if each is image:
            continue
        name, values = str(each.get("name")), _list(each.get("data"))
        if name in plain or len(values) != 1:
            raise InvalidOption(f"Got the input {name[:40]!a}, expected one value, once.")
        (value,) = values
        if grpc and each.get("datatype") == "BYTES" and isinstance(value, str):
            value = base64.b64decode(value)
        plain[name] = value
    return {**plain, "image": data[0]}


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []
