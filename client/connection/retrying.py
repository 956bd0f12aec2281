"""Asks again while a server is full, with pauses: a full queue empties within seconds, and a client
that asks again at once keeps it full.

Only what the server has not begun is asked again. A worker that died over an image would die over
it again, and an answer that is late may still be in the making.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Iterator
from dataclasses import dataclass
from typing import Callable, TypeVar

from d2serve.client.errors import ClientError, ServerOverloaded

T = TypeVar("T")


@dataclass(frozen=True)
class Retry:
    """How long and how often a client asks again. Pauses double, and vary by chance, so that
    clients that were refused together do not come back together."""

    seconds: float = 30.0
    """From the first attempt on; then the last error is raised. 0 never asks again."""
    first_pause: float = 0.1
    longest_pause: float = 3.0
    errors: tuple[type[ClientError], ...] = (ServerOverloaded,)
    """``NotConnected`` may be added, to bridge the restart of a server."""

    def pauses(self) -> Iterator[float]:
        """The pause before each further attempt, as long as there is time."""
        deadline = time.monotonic() + self.seconds
        longest = self.first_pause
        while True:
            pause = random.uniform(longest / 2, longest)
            if time.monotonic() + pause >= deadline:
                return
            yield pause
            longest = min(2 * longest, self.longest_pause)

    def call(self, ask: Callable[[], T]) -> T:
        """What ``ask`` returns or raises, at last."""
        for pause in self.pauses():
            try:
                return ask()
            except self.errors:
                time.sleep(pause)
        return ask()

    async def call_async(self, ask: Callable[[], Awaitable[T]]) -> T:
        """``call`` for asyncio."""
        for pause in self.pauses():
            try:
                return await ask()
            except self.errors:
                await asyncio.sleep(pause)
        return await ask()


DEFAULT_RETRY = Retry()
NO_RETRY = Retry(seconds=0)
