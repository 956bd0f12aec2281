"""What a server hands to the service, and what kind of request that is.

A ``Request`` speaks no server's language: whatever is peculiar to a server, its adapter has turned
into these words. ``classify`` decides once what is asked, and everything behind it goes by that.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from d2serve.handlers.errors import RequestError
from d2serve.handlers.requests.bodies.content_encoding import encoding_of, start_of, unpacked
from d2serve.handlers.requests.bodies.json_text import LENGTH_HEADER, check_names, parsed
from d2serve.handlers.requests.tracing import Trace, trace_of
from d2serve.handlers.spec.limits import DEFAULT_LIMITS, RequestLimits

PREDICT, DESCRIBE, INFER = "predict", "describe", "infer"
"""An image with options; a question for the metadata; a call of the Open Inference Protocol."""

HTTP, GRPC, IN_PROCESS = "http", "grpc", "in-process"

_LONGEST_ID = 1000


@dataclass(frozen=True)
class Request:
    """One request as an adapter hands it over."""

    body: Any = None
    """An image file, (H, W, channels) uint8 pixels, or a JSON object, as bytes or parsed."""
    fields: Mapping[str, Any] = field(default_factory=dict)
    """Options beside the body, by name: of a form, of gRPC, or Python values."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Of HTTP, in whatever case."""
    kind: str | None = None
    """Where the server knows it by the route; None leaves it to the body."""
    transport: str = IN_PROCESS
    id: str | None = None
    """The server's own name for the request, if it has one."""
    deadline: float | None = None
    """When nobody waits for the answer any more, in Unix seconds, where the server knows it by
    itself; what a client says is in ``headers`` or ``fields``."""


@dataclass(frozen=True)
class Call:
    """A request of which it is known what it asks."""

    kind: str
    body: Any
    """JSON is parsed; what is no valid JSON is left as it came."""
    contents: memoryview
    """Of a call of the Open Inference Protocol, the binary contents behind its JSON."""
    fields: Mapping[str, Any]
    headers: Mapping[str, str]
    grpc: bool
    request_id: str | None
    infer_id: str
    """What the answer to a call of the Open Inference Protocol has to repeat: the call's own id,
    otherwise the server's."""
    deadline: float | None = None
    """As the server knows it."""
    refused: RequestError | None = None
    """Why its body cannot be taken."""
    trace: Trace | None = None
    """That its caller names, if any."""


def classify(request: Request, limits: RequestLimits = DEFAULT_LIMITS) -> Call:
    """What a request asks, whatever is wrong with it otherwise; this never fails.

    A call of the Open Inference Protocol that is answered in another shape ends some workers, so it
    is recognised before anything in it is judged.

    Args:
        request: as an adapter hands it over.
        limits: of the model; they hold for a body that has to be unpacked.
    """
    sent, refused, encoding = request.body, None, encoding_of(request.headers)
    try:
        sent = unpacked(sent, encoding, limits) if encoding else sent
    except RequestError as error:
        sent, refused = start_of(sent, encoding), error
    body, contents = parsed(sent, request.headers)
    try:
        check_names(body, sent, request.headers)
    except RequestError as error:
        refused = refused or error
    is_object = isinstance(body, Mapping)
    is_call = "inputs" in body if is_object else refused is not None and _is_likely(sent, request)
    kind = request.kind or (INFER if is_call else PREDICT)
    own = body.get("id") if is_object else None
    return Call(
        kind=kind,
        body=body,
        contents=contents,
        fields=request.fields,
        headers=request.headers,
        grpc=request.transport == GRPC,
        request_id=request.id,
        infer_id=own if own and is_id(own) else request.id or "",
        deadline=request.deadline,
        refused=refused,
        trace=trace_of(request.headers),
    )


def is_id(value: object) -> bool:
    """Whether an answer can repeat this as its id."""
    if not isinstance(value, str) or len(value) > _LONGEST_ID:
        return False
    return not any("\ud800" <= character <= "\udfff" for character in value)


def _is_likely(start: bytes, request: Request) -> bool:
    """Whether a body that cannot be unpacked is probably a call of the Open Inference Protocol."""
    has_length = any(name.lower() == LENGTH_HEADER for name in request.headers)
    return has_length or (start.lstrip().startswith(b"{") and b'"inputs"' in start)
