"""Tells a server until when its answer is waited for, so that it computes nothing for nobody.

The time is by this machine's clock. Where that is another than the server's, or the archive is too
old to know a deadline, what was refused for it is asked again without, and no more is sent.
"""

from __future__ import annotations

import re
import time
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Callable, TypeVar

from d2serve.client.errors import ClientError, DeadlineExceeded, InvalidOption
from d2serve.handlers.requests.deadline import FARTHEST_SECONDS, NAME

T = TypeVar("T")

_REFUSED = re.compile(rf"the option '?{NAME}\b")


@dataclass(frozen=True)
class _Attempt:
    """One attempt, which has ``seconds`` from now on."""

    seconds: float
    began: float

    @property
    def deadline(self) -> str:
        return f"{time.time() + self.seconds:.3f}"

    def was_refused_in_vain(self, error: ClientError) -> bool:
        """Whether an error says of its deadline what is not so."""
        if isinstance(error, DeadlineExceeded):
            return time.monotonic() < self.began + self.seconds
        return isinstance(error, InvalidOption) and _REFUSED.search(error.message) is not None


class Deadlines:
    """Of the attempts of one client."""

    def __init__(self, timeout: float) -> None:
        """
        Args:
            timeout: seconds that one attempt may take.
        """
        self._timeout = timeout
        self._are_sent = timeout <= FARTHEST_SECONDS

    def call(self, ask: Callable[[str | None], T]) -> T:
        """What ``ask`` returns or raises, given the deadline to send; None for none."""
        attempt = self._attempt()
        if attempt is None:
            return ask(None)
        try:
            return ask(attempt.deadline)
        except (DeadlineExceeded, InvalidOption) as error:
            self._learn(attempt, error)
        return ask(None)

    async def call_async(self, ask: Callable[[str | None], Awaitable[T]]) -> T:
        """``call`` for asyncio."""
        attempt = self._attempt()
        if attempt is None:
            return await ask(None)
        try:
            return await ask(attempt.deadline)
        except (DeadlineExceeded, InvalidOption) as error:
            self._learn(attempt, error)
        return await ask(None)

    def _attempt(self) -> _Attempt | None:
        return _Attempt(self._timeout, time.monotonic()) if self._are_sent else None

    def _learn(self, attempt: _Attempt, error: ClientError) -> None:
        """Send none from now on, if it was refused in vain; otherwise raise the error."""
        if not attempt.was_refused_in_vain(error):
            raise error
        self._are_sent = False
