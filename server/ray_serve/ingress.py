"""The first to get a request: it reads the request, within bounds, and asks the model's replicas.

It has no model and needs next to no CPU. Since it reads bodies, a slow client keeps no replica
waiting; since it asks, it can ask again where a replica dies.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from starlette.requests import Request as HttpRequest
from starlette.responses import Response

from d2serve.server.asgi.application import Limits, application
from d2serve.server.asgi.heads import ID_HEADER
from d2serve.server.ray_serve.handles import HandleAsk

_ID = ID_HEADER.encode("ascii")


class Ingress:
    """Answers what comes over HTTP, for all models."""

    def __init__(self, models: Mapping[str, Any], body_bytes: int, answer_seconds: float) -> None:
        """
        Args:
            models: handles of the deployments, by NAME/VERSION.
            body_bytes: of a request, at most.
            answer_seconds: after which a request is answered that it came too late.
        """
        logging.getLogger("d2serve").parent = logging.getLogger("ray.serve")
        limits = Limits(body_bytes=body_bytes, answer_seconds=answer_seconds)
        asks = {key: HandleAsk(handle) for key, handle in models.items()}
        self._application = application(asks, limits)

    async def __call__(self, http: HttpRequest) -> Response:
        sent: list[dict[str, Any]] = []

        async def keep(message: dict[str, Any]) -> None:
            sent.append(message)

        await self._application.answer(http.scope, http.receive, keep)
        if not sent:  # the client has gone
            return Response(status_code=499)
        start, body = sent
        response = Response(body["body"], start["status"])
        # Ray's proxy writes the id itself, which is the one that it gave the request.
        response.raw_headers = [each for each in start["headers"] if each[0] != _ID]
        return response
