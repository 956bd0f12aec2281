"""KServe's gRPC service over our models: the Open Inference Protocol with its statuses.

KServe's own turns each call into its own classes and back, knows no versions, and has two statuses
for all that can be wrong.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Awaitable, Mapping
from typing import Any, Callable, TypeVar

import orjson
from grpc import StatusCode
from grpc_interceptor.exceptions import GrpcException

from d2serve.handlers.errors import RequestError
from d2serve.handlers.replies.reply import OK
from d2serve.handlers.requests.bodies.json_text import LENGTH_HEADER
from d2serve.handlers.requests.request import HTTP, INFER, Request
from d2serve.server.asgi.models import Models
from d2serve.server.asgi.refusals import Overloaded, Refused, refusal_of
from d2serve.server.kserve.about import SERVER_METADATA
from d2serve.server.kserve.library import messages, services
from d2serve.server.kserve.messages import body_of, response_of

T = TypeVar("T")

_STATUSES = {
    400: StatusCode.INVALID_ARGUMENT,
    404: StatusCode.NOT_FOUND,
    413: StatusCode.RESOURCE_EXHAUSTED,
    415: StatusCode.INVALID_ARGUMENT,
    501: StatusCode.UNIMPLEMENTED,
    503: StatusCode.UNAVAILABLE,
    504: StatusCode.DEADLINE_EXCEEDED,
}
_NO_HEADERS = {"content-encoding", "content-type", "content-length", LENGTH_HEADER}
"""What says of a body over HTTP what gRPC says otherwise."""
_FOR_THE_OPERATOR = (
    "Models are loaded and unloaded by whoever starts the server: everybody who asks for answers "
    "could do it otherwise."
)


def answered(
    method: Callable[[Any, Any, Any], Awaitable[T]],
) -> Callable[[Any, Any, Any], Awaitable[T]]:
    """A method whose refusals become the statuses of gRPC."""

    async def with_statuses(service: Any, request: Any, context: Any) -> T:
        try:
            return await method(service, request, context)
        except (Overloaded, Refused, RequestError) as error:
            refused = refusal_of(error, "over gRPC")
        raise _status(refused.status, refused.code, str(refused))

    return with_statuses


def _status(status: int, code: str, message: str) -> GrpcException:
    of_grpc = _STATUSES.get(status, StatusCode.INTERNAL)
    return GrpcException(status_code=of_grpc, details=f"{code}: {message}")


class InferenceService(services.GRPCInferenceServiceServicer):  # type: ignore[misc]
    """The methods of the protocol."""

    def __init__(self, models: Models) -> None:
        self._models = models

    async def ServerLive(self, _request: Any, _context: Any) -> Any:  # noqa: N802 - the protocol names it
        return messages.ServerLiveResponse(live=True)

    @answered
    async def ServerReady(self, _request: Any, _context: Any) -> Any:  # noqa: N802 - the protocol names it
        return messages.ServerReadyResponse(ready=await self._models.is_ready())

    @answered
    async def ModelReady(self, request: Any, _context: Any) -> Any:  # noqa: N802 - the protocol names it
        ready = await self._models.is_ready(request.name, request.version or None)
        return messages.ModelReadyResponse(ready=ready)

    async def ServerMetadata(self, _request: Any, _context: Any) -> Any:  # noqa: N802 - the protocol names it
        return messages.ServerMetadataResponse(**SERVER_METADATA)

    @answered
    async def ModelMetadata(self, request: Any, _context: Any) -> Any:  # noqa: N802 - the protocol names it
        reply = await self._models.describe(request.name, request.version or None)
        told = orjson.loads(reply.body)
        names = ("name", "versions", "platform", "inputs", "outputs")
        return messages.ModelMetadataResponse(**{name: told[name] for name in names})

    @answered
    async def ModelInfer(self, request: Any, context: Any) -> Any:  # noqa: N802 - the protocol names it
        ask = self._models.find(request.model_name, request.model_version or None)
        loop = asyncio.get_running_loop()
        # A copy of an image's bytes, and of typed contents every value.
        body, about = await loop.run_in_executor(None, body_of, request)
        rest = context.time_remaining()
        reply = await ask(
            Request(
                body=body,
                headers={**_headers(context), **about},
                kind=INFER,
                transport=HTTP,
                id=str(uuid.uuid4()),
                deadline=None if rest is None else time.time() + rest,
            )
        )
        if reply.code != OK:
            raise _status(reply.status, reply.code, reply.message)
        raw = bool(request.raw_input_contents)
        return await loop.run_in_executor(None, response_of, reply, raw)

    async def RepositoryModelLoad(self, _request: Any, _context: Any) -> Any:  # noqa: N802 - the protocol names it
        raise _status(501, "not_offered", _FOR_THE_OPERATOR)

    async def RepositoryModelUnload(self, _request: Any, _context: Any) -> Any:  # noqa: N802 - the protocol names it
        raise _status(501, "not_offered", _FOR_THE_OPERATOR)


def _headers(context: Any) -> Mapping[str, str]:
    """The metadata of a call, as headers: a deadline, a trace, options."""
    found: dict[str, str] = {}
    for name, value in context.invocation_metadata() or ():
        if isinstance(value, str) and name not in _NO_HEADERS:
            found[name] = f"{found[name]}, {value}" if name in found else value
    return found
