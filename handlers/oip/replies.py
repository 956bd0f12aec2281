"""Encodes the answer to a call of the Open Inference Protocol, as tensors by name.

Over HTTP a tensor is in JSON, or in binary behind it where the call asks for that: little-endian
and row by row, of BYTES the same texts that JSON has, each with its length before it. Over gRPC
TorchServe makes the protocol's message of the JSON that it gets, and takes of an element of BYTES
what it is as JSON: a text arrives with its quotes, an object as JSON has it. A null where it
expects a number would end the worker.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any, Callable

import numpy as np
import orjson

from d2serve.handlers.errors import ModelFailed, RequestError
from d2serve.handlers.oip.outputs import binary_outputs
from d2serve.handlers.oip.tensors import BINARY_SIZE, DTYPES, packed
from d2serve.handlers.outputs.records import Detections, Outputs
from d2serve.handlers.replies.encoding import panoptic_seg_field, sem_seg_field
from d2serve.handlers.replies.fields import BYTES, REPLY, OutputTensor, tensors_of
from d2serve.handlers.replies.polygons import to_polygons
from d2serve.handlers.replies.reply import JSON, Body
from d2serve.handlers.requests.options import POLYGON, RequestOptions
from d2serve.handlers.requests.request import Call
from d2serve.handlers.spec.extras import IMAGE, Extra
from d2serve.handlers.spec.model_spec import ModelSpec

BINARY = "application/octet-stream"
_CONTENTS = "the Open Inference Protocol"


def encode_infer(
    call: Call,
    names: Sequence[str],
    options: RequestOptions,
    found: Outputs,
    spec: ModelSpec,
    served_as: tuple[str, str],
    reply: Callable[[], Body],
) -> Body:
    """The answer to a call.

    Args:
        names: of its outputs.
        options: of the request.
        found: in the image, of what the options leave.
        served_as: name and version of the model.
        reply: makes the body that any other request would be answered with.

    Raises:
        ModelFailed: the model found numbers that are none, which would end the worker.
    """
    declared = {each.name: each for each in tensors_of(spec)}
    in_binary = binary_outputs(call, names)
    outputs, contents = list[dict[str, Any]](), list[bytes]()
    for name in names:
        values = _as_element(reply()) if name == REPLY.name else _values(name, found, options, spec)
        if name in in_binary:
            output, content = _binary_tensor(declared[name], values)
            outputs.append(output)
            contents.append(content)
        else:
            outputs.append(_tensor(call, declared[name], values))
    answer = _answer(call, served_as, outputs)
    if not in_binary:
        return Body(JSON, answer, _CONTENTS)
    ends = {"Inference-Header-Content-Length": str(len(answer))}
    return Body(BINARY, b"".join((answer, *contents)), _CONTENTS, ends)


def encode_infer_error(
    call: Call, error: RequestError, reply: bytes, served_as: tuple[str, str]
) -> bytes:
    """The answer to a call that has none.

    Over HTTP there is a status, and the protocol's error is a text, which clients put into theirs.
    Over gRPC there is neither: an output ``error`` holds the reply of any other request.
    """
    if not call.grpc:
        return orjson.dumps({"error": f"{error.code}: {error}"})
    output = _tensor(call, OutputTensor("error", BYTES, (1,)), [orjson.Fragment(reply)])
    return _answer(call, served_as, [output])


def _answer(call: Call, served_as: tuple[str, str], outputs: list[dict[str, Any]]) -> bytes:
    model, version = served_as
    named = {"id": call.infer_id, "model_name": model, "model_version": version}
    return orjson.dumps({**named, "outputs": outputs}, option=orjson.OPT_SERIALIZE_NUMPY)


def _tensor(call: Call, output: OutputTensor, values: Any) -> dict[str, Any]:
    data = values
    if output.datatype == BYTES:
        shape = [len(values)]
        if not call.grpc:
            data = list(map(_text, values))
    else:
        shape = list(values.shape)
        if not np.isfinite(values).all():
            raise ModelFailed(
                f"The model answered {output.name} that are no finite numbers, which JSON does not "
                f"have. Name the outputs that are wanted: others, or {REPLY.name!r}."
            )
        data = np.ascontiguousarray(values).ravel()
    return {"name": output.name, "datatype": output.datatype, "shape": shape, "data": data}


def _binary_tensor(output: OutputTensor, values: Any) -> tuple[dict[str, Any], bytes]:
    if output.datatype == BYTES:
        shape, content = [len(values)], packed(_text(each).encode("utf-8") for each in values)
    else:
        array = np.ascontiguousarray(values, DTYPES[output.datatype])
        shape, content = list(array.shape), array.tobytes()
    size = {BINARY_SIZE: len(content)}
    named = {"name": output.name, "datatype": output.datatype}
    return {**named, "shape": shape, "parameters": size}, content


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY).decode("utf-8")


def _as_element(reply: Body) -> list[Any]:
    if reply.content_type == JSON:
        return [orjson.Fragment(reply.data)]
    picture = base64.b64encode(reply.data).decode("ascii")
    return [{"content_type": reply.content_type, "picture": picture}]


def _values(name: str, found: Outputs, options: RequestOptions, spec: ModelSpec) -> Any:
    """What an output holds: an array, or a list of texts or of what is to be JSON."""
    if name == "image_size":
        return np.array([found.height, found.width], np.int64)
    for extra in spec.extras:
        if extra.output == name:
            return _extra(extra, found)
    if name == "sem_seg" and found.sem_seg is not None:
        return [sem_seg_field(found.sem_seg, spec.stuff_class_names, options)]
    if name == "panoptic_seg" and found.panoptic_seg is not None:
        return [panoptic_seg_field(found.panoptic_seg, spec)]
    if found.proposals is not None:
        proposals = found.proposals
        return proposals.boxes if name == "proposal_boxes" else proposals.objectness_logits
    assert found.instances is not None  # what is left is of them
    return _of_instances(name, found.instances, options, spec)


def _extra(extra: Extra, found: Outputs) -> Any:
    if extra.per == IMAGE:
        values = np.atleast_1d(found.extra[extra.name])
    else:
        assert found.instances is not None  # whose extra it is
        values = found.instances.extra[extra.name]
    return values.astype(np.float32) if values.dtype == np.float16 else values


def _of_instances(name: str, found: Detections, options: RequestOptions, spec: ModelSpec) -> Any:
    if name == "class_names":
        return [(spec.class_names or ())[category] for category in found.classes.tolist()]
    if name == "masks":
        masks = found.masks or ()
        return [to_polygons(mask) for mask in masks] if options.masks == POLYGON else list(masks)
    return getattr(found, name)  # boxes, scores, classes, keypoints
