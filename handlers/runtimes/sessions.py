"""A session that keeps its number of threads for life, and is made again for another number.

Two sessions at once would be twice the model's memory, which a container need not have. So the old
one goes first, once no call uses it any more. If the new one cannot be made, the old one is made
again, and the log says so: a worker with too many threads still answers.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

S = TypeVar("S")
R = TypeVar("R")

_log = logging.getLogger(__name__)


class Sessions(Generic[S]):
    """One session at a time, which any number of threads may use."""

    def __init__(self, make: Callable[[int], S], threads: int) -> None:
        """
        Args:
            make: makes a session of so many threads; it may fail in any way.
            threads: of the first one, which is made by the first call.
        """
        self._make = make
        self._wanted = self._threads = threads
        self._failed: set[int] = set()
        self._session: S | None = None
        self._users = 0
        self._changed = threading.Condition()

    @property
    def threads(self) -> int:
        """Threads that the next call will use."""
        return self._wanted

    def set_threads(self, threads: int) -> None:
        """Use this many threads from the next call on, unless that has failed before."""
        with self._changed:
            if threads not in self._failed:
                self._wanted = threads

    def call(self, use: Callable[[S], R]) -> R:
        """What ``use`` makes of the session, which it must not keep."""
        with self._changed:
            while self._session is None or self._wanted != self._threads:
                if self._users == 0:
                    self._session = None  # gone before there is another
                    self._session = self._made()
                else:
                    self._changed.wait()
            self._users += 1
            session = self._session
        try:
            return use(session)
        finally:
            del session
            with self._changed:
                self._users -= 1
                self._changed.notify_all()

    def _made(self) -> S:
        try:
            made = self._make(self._wanted)
        except Exception:
            if self._wanted == self._threads:
                raise
            _log.exception(
                "d2serve: the program cannot be loaded for %d threads; it stays at %d",
                self._wanted,
                self._threads,
            )
            self._failed.add(self._wanted)
            self._wanted = self._threads
            return self._make(self._threads)
        self._threads = self._wanted
        return made
