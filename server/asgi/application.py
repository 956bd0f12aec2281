"""An ASGI application with TorchServe's paths, over models that some engine runs.

It reads requests, within bounds, and writes replies. Where the models are and how they are asked is
its caller's.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import orjson

from d2serve.handlers.errors import RequestError
from d2serve.handlers.replies.reply import JSON, Reply
from d2serve.handlers.requests.deadline import deadline_of
from d2serve.handlers.requests.request import Request
from d2serve.server.asgi import routes
from d2serve.server.asgi.bodies import Receive, read_body
from d2serve.server.asgi.gone import until_gone
from d2serve.server.asgi.heads import ID_HEADER, Head, Scope
from d2serve.server.asgi.models import Ask, Models
from d2serve.server.asgi.reading import MODEL_NAME, is_form, read_request
from d2serve.server.asgi.refusals import (
    Disconnected,
    Refused,
    error_body,
    method_not_allowed,
    refusal_of,
    too_late,
)
from d2serve.server.asgi.routes import Route, route_of
from d2serve.server.asgi.sending import Send, send_answer

MOST_BODY_BYTES = 64 << 20
"""As max_request_size in d2serve's config.properties: an image of 32 MB in base64, and more."""
ANSWER_SECONDS = 120.0
"""As TorchServe's default_response_timeout."""
BODY_SECONDS = 60.0

_HEALTHY = b'{\n  "status": "Healthy"\n}\n'
_UNHEALTHY = b'{\n  "status": "Unhealthy"\n}\n'
"""TorchServe's own words, to the letter."""


@dataclass(frozen=True)
class Limits:
    """The most that a request may bring and wait for."""

    body_bytes: int = MOST_BODY_BYTES
    body_seconds: float = BODY_SECONDS
    answer_seconds: float = ANSWER_SECONDS


@dataclass(frozen=True)
class Answer:
    """What goes to the client."""

    body: bytes
    status: int = 200
    content_type: str = JSON
    headers: Mapping[str, str] = field(default_factory=dict)


def application(models: Mapping[str, Ask], limits: Limits | None = None) -> Application:
    """The application.

    Args:
        models: how each is asked, by NAME or NAME/VERSION. Of a name, the first answers where a
            request names no version.
        limits: of a request.
    """
    return Application(Models(models), limits or Limits())


class Application:
    """Answers what comes over HTTP."""

    def __init__(self, models: Models, limits: Limits) -> None:
        self._models = models
        self._limits = limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As ASGI has it."""
        if scope["type"] == "lifespan":
            await _live(receive, send)
        elif scope["type"] == "http" and scope["method"] in ("GET", "HEAD"):
            await self.answer(scope, receive, send)
        elif scope["type"] == "http":
            await until_gone(self.answer, scope, receive, send)
        else:  # a web socket, which is refused
            await receive()
            await send({"type": "websocket.close", "code": 1000})

    async def answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request of HTTP, for a server that itself waits for the rest of a body, and
        tells when a client has gone."""
        head = Head.of(scope)
        try:
            answer = await self._answer(head, receive)
        except Disconnected:
            return
        headers = {"cache-control": "no-store", ID_HEADER: head.request_id, **answer.headers}
        sent = answer.body, headers, answer.status, answer.content_type
        await send_answer(send, *sent, head_only=head.method == "HEAD")

    async def _answer(self, head: Head, receive: Receive) -> Answer:
        try:
            return await self._routed(head, receive)
        except (Disconnected, asyncio.CancelledError):
            raise
        except Exception as error:
            refused = refusal_of(error, head.request_id)
        is_oip = routes.is_oip(head.path)
        body = error_body(refused.code, str(refused), head.request_id, is_oip)
        return Answer(body, refused.status, headers=refused.headers)

    async def _routed(self, head: Head, receive: Receive) -> Answer:
        route = route_of(head.path)
        if head.method not in route.methods:
            raise method_not_allowed(head.method, route.methods)
        if "POST" not in route.methods:
            return await self._told(route)
        began = time.time()
        if route.model is not None:  # before its body is read
            self._models.find(route.model, route.version)
        body = await read_body(receive, head, self._limits.body_bytes, self._limits.body_seconds)
        until, is_infer = began + self._limits.answer_seconds, route.what == routes.OIP_INFER
        if is_form(head):  # a large one takes a while
            loop = asyncio.get_running_loop()
            request = await loop.run_in_executor(None, read_request, head, body, until, is_infer)
        else:
            request = read_request(head, body, until, is_infer)
        ask = self._wanted(route, request)
        fields = {name: value for name, value in request.fields.items() if name != MODEL_NAME}
        return await self._asked(ask, replace(request, fields=fields))

    def _wanted(self, route: Route, request: Request) -> Ask:
        """How the model is asked that a request means."""
        named = request.fields.get(MODEL_NAME)
        if route.model is not None:
            return self._models.find(route.model, route.version)
        name = named.decode("utf-8", "replace") if isinstance(named, bytes) else named
        name = name or self._models.only()
        if name is None:
            there = ", ".join(dict.fromkeys(name for name, _ in self._models.listed()))
            raise Refused(
                400,
                "invalid_option",
                f"Got no {MODEL_NAME}, expected it, since several models are served: {there}.",
            )
        model, _, version = str(name).partition("/")
        return self._models.find(model, version or None)

    async def _asked(self, ask: Ask, request: Request) -> Answer:
        seconds = _awaited_until(request) - time.time()
        try:
            reply = await asyncio.wait_for(ask(request), max(seconds, 0.001))
        except asyncio.TimeoutError:
            raise too_late(seconds) from None
        return _of_reply(reply)

    async def _told(self, route: Route) -> Answer:
        """What is asked about the server or a model."""
        name, version = route.model, route.version
        if route.what == routes.PING:
            ready = await self._models.is_ready()
            return Answer(_HEALTHY) if ready else Answer(_UNHEALTHY, 500)
        if route.what == routes.LIST:
            listed = [_listed(*each) for each in self._models.listed()]
            return _json({"models": listed})
        if route.what == routes.OIP_SERVER:
            return _json({"name": "d2serve", "version": "2", "extensions": []})
        if route.what == routes.OIP_LIVE:
            return _json({"live": True})
        if route.what == routes.OIP_READY:
            ready = await self._models.is_ready()
            return _json({"ready": ready}, 200 if ready else 503)
        if route.what == routes.OIP_MODEL_READY:
            ready = await self._models.is_ready(name, version)
            return _json({"name": name, "ready": ready}, 200 if ready else 503)
        assert name is not None  # what is left is of a model
        return _of_reply(await self._models.describe(name, version))


def _listed(name: str, version: str | None) -> dict[str, str]:
    return {"modelName": name, **({} if version is None else {"modelVersion": version})}


def _awaited_until(request: Request) -> float:
    """In Unix seconds; what is wrong with a client's own deadline is the service's to say."""
    assert request.deadline is not None  # the application has set one
    try:
        return deadline_of(request, request.fields) or request.deadline
    except RequestError:
        return request.deadline


def _of_reply(reply: Reply) -> Answer:
    return Answer(reply.body, reply.status, reply.content_type, reply.headers)


def _json(value: Any, status: int = 200) -> Answer:
    return Answer(orjson.dumps(value), status)


async def _live(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
