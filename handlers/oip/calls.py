"""Why: a call of the Open Inference Protocol that is answered in another shape ends the worker.

So which requests are such calls is told before anything in them is judged. Of a gRPC call
TorchServe hands over, as JSON, the id and the inputs, whose bytes are in base64: parameters,
requested outputs and raw contents it drops. Over HTTP, KServe's clients send JSON without a
content type, or with the contents of inputs in binary behind it, both of which arrive as bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

RAW = "raw_input_contents"
"""Beside a body's inputs: what came behind its JSON, which no JSON can hold."""

_JSON = "application/json"
_JSON_LENGTH = "inference-header-content-length"
_LONGEST_ID = 1000


@dataclass(frozen=True)
class OipCall:
    """That a request came by this protocol, and what its answer has to repeat."""

    id: str
    """The call's own, or else the server's."""
    grpc: bool


def oip_call(
    request: Any, headers: Mapping[str, Any], grpc: bool, request_id: str | None = None
) -> OipCall | None:
    """The protocol's call that a request is, if it is one; whatever is wrong with it.

    Args:
        request: as ``unpacked`` returns it.
        headers, grpc: that came with it, and whether it came over gRPC.
        request_id: the server's.
    """
    body = request.get("body") if isinstance(request, Mapping) else None
    kind = headers.get("body")
    # An input of TorchServe's own gRPC calls has no content type.
    by_grpc = grpc and isinstance(kind, Mapping) and kind.get("content-type") == _JSON
    if by_grpc or (isinstance(body, Mapping) and "inputs" in body):
        own = body.get("id") if isinstance(body, Mapping) else None
        return OipCall(own if own and is_id(own) else request_id or "", by_grpc)
    return None


def unpacked(request: Any, headers: Mapping[str, Any]) -> Any:
    """The request, with a body that is JSON read where TorchServe has not done so.

    A request that cannot be read so is returned as it is: it has to be refused, not here.
    """
    body = request.get("body") if isinstance(request, Mapping) else None
    if not isinstance(body, (bytes, bytearray)) or not body.startswith(b"{"):
        return request
    told = [value for name, value in headers.items() if name.lower() == _JSON_LENGTH]
    length = int(told[0]) if told and _is_number(told[0]) else len(body)
    try:
        read = orjson.loads(memoryview(body)[:length])
    except ValueError:
        return request
    if length < len(body):
        read[RAW] = memoryview(body)[length:]
    return {**request, "body": read}


def is_id(value: object) -> bool:
    """Whether an answer can repeat this as its id."""
    if not isinstance(value, str) or len(value) > _LONGEST_ID:
        return False
    return not any("\ud800" <= character <= "\udfff" for character in value)


def _is_number(value: object) -> bool:
    return isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 9
