"""Asks the replicas of a model, wherever they are."""

from __future__ import annotations

import logging
import time
from typing import Any

from ray.exceptions import RayActorError
from ray.serve.exceptions import BackPressureError, RayServeException

from d2serve.handlers.replies.reply import Reply
from d2serve.handlers.requests.request import DESCRIBE, Request
from d2serve.server.asgi.refusals import Overloaded, Refused

_log = logging.getLogger(__name__)

_ATTEMPTS = 2
_STUCK_SECONDS = 30.0
"""A model that was asked for so long and has answered nothing is taken for gone."""


class HandleAsk:
    """How the models of an ASGI application are asked, over a handle of Ray Serve.

    A request is asked again once where its replica died, since nothing is changed by asking: what
    ends one replica ends two at most.
    """

    def __init__(self, handle: Any) -> None:
        """
        Args:
            handle: of a deployment of ``ModelReplica``.
        """
        self._handle = handle
        self._described: Reply | None = None
        self._asked = 0
        self._since = 0.0

    async def __call__(self, request: Request) -> Reply:
        """
        Raises:
            Overloaded: too many wait already.
            Refused: there is no replica.
        """
        if request.kind == DESCRIBE:
            return await self._describe(request)
        if self._asked == 0:
            self._since = time.monotonic()
        self._asked += 1
        try:
            reply = await self._ask(request)
            self._since = time.monotonic()
        finally:
            self._asked -= 1
        return reply

    async def _describe(self, request: Request) -> Reply:
        """From memory once it is known, since it must not wait for what is asked before."""
        if self._asked and time.monotonic() - self._since > _STUCK_SECONDS:
            raise _unavailable()
        if self._described is None:
            self._described = await self._ask(request)
        return self._described

    async def _ask(self, request: Request) -> Reply:
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                reply: Reply = await self._handle.answer.remote(request)
                return reply
            except BackPressureError:
                raise Overloaded from None
            except RayActorError as error:
                told = "asked again" if attempt < _ATTEMPTS else "given up"
                _log.warning("d2serve: a replica died, a request is %s: %s", told, error)
            except RayServeException as error:
                _log.warning("d2serve: %s", error)
                break
        raise _unavailable()


def _unavailable() -> Refused:
    return Refused(503, "unavailable", "No replica of this model answers now. Ask again later.")
