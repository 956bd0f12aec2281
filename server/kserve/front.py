"""What comes over HTTP, and who answers it: our own application, KServe's, or neither.

KServe's routes make Python lists of pixels, take no JPEG in binary, read a body of any size, and
let everybody unload a model. So a call for an answer goes to d2serve.server.asgi, as on every other
engine; KServe's application tells what it knows better, and gets no body.
"""

from __future__ import annotations

import asyncio
import re
import time

import orjson

from d2serve.server.asgi.application import Application, Limits
from d2serve.server.asgi.bodies import Receive, read_body
from d2serve.server.asgi.gone import App, until_gone
from d2serve.server.asgi.heads import ID_HEADER, Head, Scope
from d2serve.server.asgi.models import Models
from d2serve.server.asgi.refusals import (
    Disconnected,
    error_body,
    refusal_of,
    too_late,
)
from d2serve.server.asgi.sending import Send, send_answer
from d2serve.server.kserve.about import SERVER_METADATA
from d2serve.server.kserve.metrics import page
from d2serve.server.kserve.version_1 import predictions, read_instances

_OF_KSERVE = re.compile(r"/|/v1/models(?:/[^/]+)?|/v2/models")
_PREDICT = re.compile(r"/v1/models/(?P<model>[^/]+):predict")


class Front:
    """An ASGI application."""

    def __init__(self, kserve: App, models: Models, limits: Limits) -> None:
        """
        Args:
            kserve: KServe's own application.
            models: that are served.
            limits: of a request.
        """
        self._kserve = kserve
        self._own = Application(models, limits)
        self._models = models
        self._limits = limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As ASGI has it."""
        path, is_read = scope["path"], scope.get("method") in ("GET", "HEAD")
        if scope["type"] == "http" and is_read and path in ("/v2", "/v2/"):
            await send_answer(send, orjson.dumps(SERVER_METADATA), {})
        elif scope["type"] == "http" and is_read and path == "/metrics":
            content_type, text = page(Head.of(scope).headers.get("accept", ""))
            await send_answer(send, text, {"content-type": content_type})
        elif scope["type"] == "http" and is_read and _OF_KSERVE.fullmatch(path):
            await self._kserve(scope, receive, send)
        elif scope.get("method") == "POST" and _PREDICT.fullmatch(path):
            await until_gone(self._version_1, scope, receive, send)
        else:
            await self._own(scope, receive, send)

    async def _version_1(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a call of KServe's first protocol."""
        head, asked = Head.of(scope), _PREDICT.fullmatch(scope["path"])
        model = asked["model"] if asked else ""
        try:
            await send_answer(
                send, await self._predicted(model, head, receive), {ID_HEADER: head.request_id}
            )
            return
        except Disconnected:
            return
        except Exception as error:
            refused = refusal_of(error, head.request_id)
        body = error_body(refused.code, str(refused), head.request_id, is_oip=True)
        headers = {ID_HEADER: head.request_id, **refused.headers}
        await send_answer(send, body, headers, refused.status)

    async def _predicted(self, model: str, head: Head, receive: Receive) -> bytes:
        ask, began = self._models.find(model, None), time.monotonic()
        body = await read_body(receive, head, self._limits.body_bytes, self._limits.body_seconds)
        requests = await asyncio.get_running_loop().run_in_executor(
            None, read_instances, body, head
        )
        seconds = began + self._limits.answer_seconds - time.monotonic()
        try:
            return await asyncio.wait_for(predictions(ask, requests), seconds)
        except asyncio.TimeoutError:
            raise too_late(self._limits.answer_seconds) from None
