"""Calls over gRPC in the form that they have over REST in binary, and answers back.

The two are one protocol: raw contents are what stands behind the JSON. So a call has one reader
and one encoder, whichever way it came, and pixels are never Python numbers.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import orjson
from google.protobuf.unknown_fields import UnknownFieldSet

from d2serve.handlers.errors import InvalidOption
from d2serve.handlers.oip.outputs import ALL_BINARY, BINARY_OUTPUT
from d2serve.handlers.oip.tensors import BINARY_SIZE, DTYPES, packed
from d2serve.handlers.replies.fields import BYTES
from d2serve.handlers.replies.reply import Reply
from d2serve.handlers.requests.bodies.json_text import LENGTH_HEADER
from d2serve.server.kserve.library import messages

CONTENTS = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    BYTES: "bytes_contents",
}
"""The field of a tensor's values, by its datatype."""

_WIDE = {"int_contents": "<i4", "uint_contents": "<u4"}
_DOUBLE_FIELD, _UINT64_FIELD = 4, 5
"""Triton's further kinds of a parameter, which KServe's messages lack."""


def body_of(request: Any) -> tuple[bytes, dict[str, str]]:
    """A call as it would be posted, and the headers that say so.

    Args:
        request: a ModelInferRequest.

    Raises:
        InvalidOption: contents do not fit the inputs, or a parameter has no value.
    """
    raw = request.raw_input_contents
    if raw and len(raw) != len(request.inputs):
        raise InvalidOption(
            f"Got {len(request.inputs)} inputs and {len(raw)} raw_input_contents, expected as many "
            "as inputs, or none."
        )
    if raw and any(each.HasField("contents") for each in request.inputs):
        raise InvalidOption("Got both contents and raw_input_contents, expected one of them.")
    contents = list(raw) or [_contents(each) for each in request.inputs]
    call = {
        "inputs": [
            {**_tensor(each), "parameters": {**_parameters(each), BINARY_SIZE: len(content)}}
            for each, content in zip(request.inputs, contents)
        ],
        "outputs": [
            {"name": each.name, "parameters": {**_parameters(each), BINARY_OUTPUT: True}}
            for each in request.outputs
        ],
        "parameters": {**_parameters(request), ALL_BINARY: True},
    }
    if request.id:
        call["id"] = request.id
    start = orjson.dumps(call)
    return b"".join((start, *contents)), {LENGTH_HEADER: str(len(start))}


def response_of(reply: Reply, raw: bool) -> Any:
    """The ModelInferResponse of an answer.

    Args:
        reply: to what ``body_of`` gave.
        raw: whether its tensors are raw contents, as Triton always has them, or typed ones. An
            answer has the form of its call, as KServe's server does it.
    """
    named = {name.lower(): value for name, value in reply.headers.items()}
    end = int(named.get(LENGTH_HEADER, len(reply.body)))
    answer, rest = orjson.loads(reply.body[:end]), memoryview(reply.body)[end:]
    outputs, contents = answer.pop("outputs"), list[bytes]()
    response = messages.ModelInferResponse(**answer)
    for each in outputs:
        size = each["parameters"][BINARY_SIZE]
        content, rest = bytes(rest[:size]), rest[size:]
        output = response.outputs.add(
            name=each["name"], datatype=each["datatype"], shape=each["shape"]
        )
        if raw:
            contents.append(content)
        else:
            values = _values(each["datatype"], content)
            getattr(output.contents, CONTENTS[each["datatype"]]).extend(values)
    response.raw_output_contents.extend(contents)
    return response


def _tensor(given: Any) -> dict[str, Any]:
    return {"name": given.name, "datatype": given.datatype, "shape": list(given.shape)}


def _contents(given: Any) -> bytes:
    """The binary form of an input whose values came by their type."""
    wanted = CONTENTS.get(given.datatype)
    there = [field.name for field, _ in given.contents.ListFields()]
    if wanted is None:
        return b""  # whoever reads the call refuses the datatype
    if any(name != wanted for name in there):
        raise InvalidOption(
            f"Got the input {given.name[:40]!a} of {given.datatype} with {', '.join(there)}, "
            f"expected {wanted}, or raw_input_contents."
        )
    values = getattr(given.contents, wanted)
    if given.datatype == BYTES:
        return packed(values)
    wide = np.fromiter(values, _WIDE.get(wanted, DTYPES[given.datatype]), len(values))
    narrow = wide.astype(DTYPES[given.datatype])
    if narrow.dtype != wide.dtype and not np.array_equal(narrow, wide):
        raise InvalidOption(
            f"Got the input {given.name[:40]!a} with values that are no {given.datatype}."
        )
    return narrow.tobytes()


def _values(datatype: str, content: bytes) -> Iterable[Any]:
    if datatype != BYTES:
        values: list[Any] = np.frombuffer(content, DTYPES[datatype]).tolist()
        return values
    texts, place = list[bytes](), 0
    while place < len(content):
        (length,) = struct.unpack_from("<I", content, place)
        texts.append(content[place + 4 : place + 4 + length])
        place += 4 + length
    return texts


def _parameters(given: Any) -> Mapping[str, Any]:
    return {name: _value(name, each) for name, each in given.parameters.items()}


def _value(name: str, parameter: Any) -> Any:
    kind = parameter.WhichOneof("parameter_choice")
    if kind is not None:
        return getattr(parameter, kind)
    for field in UnknownFieldSet(parameter):
        if field.field_number == _DOUBLE_FIELD and isinstance(field.data, int):
            (value,) = struct.unpack("<d", struct.pack("<Q", field.data))
            if math.isfinite(value):
                return value
        if field.field_number == _UINT64_FIELD:
            return field.data
    raise InvalidOption(f"Got the parameter {name[:40]!a} without a value that JSON has.")
