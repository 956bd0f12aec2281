"""Answers requests in threads beside the event loop, as many at once as there are cores for.

The event loop must go on while a model works, or health checks fail and connections hang. On a
CPU each thread answers one image; where a program answers several at once on a GPU, whatever has
come meanwhile goes to it together, so that nothing waits for a batch to fill.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

from d2serve.handlers.replies.reply import Reply
from d2serve.handlers.requests.request import Request
from d2serve.server.asgi.refusals import Overloaded

MOST_TOGETHER = 8
"""Images of one call of a program."""
MOST_WAITING = 100
"""Requests of a process that no thread has come to, as in TorchServe's queue."""


class Answers(Protocol):
    """A model that is asked here."""

    together: int
    """Images that it answers at once."""

    def answer(self, requests: Sequence[Request]) -> list[Reply]:
        """A reply to each; it may take as long as it does."""


@dataclass
class _Waiting:
    model: Answers
    request: Request
    reply: asyncio.Future[Reply]


class Queue:
    """The requests of one process, of all its models."""

    def __init__(self, threads: int) -> None:
        """
        Args:
            threads: that answer at the same time.
        """
        self._free = threads
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="d2serve")
        self._waiting: deque[_Waiting] = deque()
        self._answering: set[asyncio.Task[None]] = set()

    async def ask(self, model: Answers, request: Request) -> Reply:
        """The reply to a request; whoever is cancelled while it waits costs no work.

        Raises:
            Overloaded: as many wait as may.
        """
        if len(self._waiting) >= MOST_WAITING:
            raise Overloaded
        reply: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(model, request, reply))
        self._start()
        return await reply

    def _start(self) -> None:
        while self._free and (some := self._next()):
            self._free -= 1
            task = asyncio.get_running_loop().create_task(self._answer(some))
            self._answering.add(task)
            task.add_done_callback(self._answering.discard)

    def _next(self) -> list[_Waiting]:
        """The request that has waited longest, and others that its model can answer with it."""
        waiting = [each for each in self._waiting if not each.reply.done()]
        some: list[_Waiting] = []
        for each in waiting:
            if not some or (each.model is some[0].model and len(some) < each.model.together):
                some.append(each)
        self._waiting = deque(each for each in waiting if each not in some)
        return some

    async def _answer(self, some: list[_Waiting]) -> None:
        ask, loop = some[0].model.answer, asyncio.get_running_loop()
        try:
            replies = await loop.run_in_executor(self._pool, ask, [each.request for each in some])
            for each, reply in zip(some, replies):
                if not each.reply.done():
                    each.reply.set_result(reply)
        except Exception as error:
            for each in some:
                if not each.reply.done():
                    each.reply.set_exception(error)
        finally:
            self._free += 1
            self._start()
