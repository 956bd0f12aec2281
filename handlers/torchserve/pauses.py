"""Does something when a worker has paused for a while; nothing tells a worker that it is idle.

While it answers, a thread waits for the pause; in the pause there is none.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Callable


class Pauses:
    """Calls what is due in a pause, once in each."""

    def __init__(self, due: Callable[[], None], seconds: float) -> None:
        """
        Args:
            due: called by a thread of its own, never while something is being answered. It must
                not fail.
            seconds: how long nothing was answered.
        """
        self._due = due
        self._seconds = seconds
        self._one = threading.Lock()
        self._answered = threading.Event()
        self._watched = False

    @contextmanager
    def answering(self) -> Iterator[None]:
        """While this lasts something is being answered."""
        with self._one:
            try:
                yield
            finally:
                self._answered.set()
                if not self._watched:
                    threading.Thread(target=self._watch, name="d2serve-pause", daemon=True).start()
                    self._watched = True

    def _watch(self) -> None:
        while True:
            self._answered.clear()
            if self._answered.wait(self._seconds):
                continue
            with self._one:
                if not self._answered.is_set():
                    self._watched = False
                    self._due()
                    return
