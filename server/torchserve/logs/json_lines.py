"""TorchServe's log as JSON objects, one a line, for whatever collects and searches logs."""

from __future__ import annotations

import threading
from typing import Callable

from d2serve.server.torchserve.logs.joining import SECONDS_TO_WAIT, Joiner

_SECONDS_TO_THE_END = 5.0


class JsonLines:
    """Takes TorchServe's lines, from any thread, and writes objects; close it at the end."""

    def __init__(self, write: Callable[[str], None]) -> None:
        """
        Args:
            write: is called with each object's line, without its end. After it has raised once, it
                is called no more.
        """
        self._write: Callable[[str], None] | None = write
        self._joiner = Joiner()
        self._lock = threading.Lock()
        self._is_over = threading.Event()
        threading.Thread(target=self._write_what_is_due, daemon=True).start()

    def __call__(self, line: str) -> None:
        with self._lock:
            for record in self._joiner.feed(line):
                self._pass_on(record.as_json())

    def close(self) -> None:
        """Write what still waits for a next line, unless whoever reads has stopped reading."""
        self._is_over.set()
        if self._lock.acquire(timeout=_SECONDS_TO_THE_END):
            for record in self._joiner.rest():
                self._pass_on(record.as_json())
            self._lock.release()

    def _write_what_is_due(self) -> None:
        while not self._is_over.wait(SECONDS_TO_WAIT / 2):
            with self._lock:
                for record in self._joiner.due():
                    self._pass_on(record.as_json())

    def _pass_on(self, line: str) -> None:
        if self._write is None:
            return
        try:
            self._write(line)
        except Exception:  # nobody reads it any more
            self._write = None
