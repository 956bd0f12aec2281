"""Reads what a running TorchServe writes, in a thread: a pipe that nobody reads fills up, and then
blocks the server."""

from __future__ import annotations

import threading
from typing import IO, Callable

from d2serve.server.torchserve.logs.log_diagnosis import ServerLog

# TorchServe repeats each value of each metric in its log, about ten lines for a request.
_METRIC = "WorkerLifeCycle - result=[METRICS]"
_SECONDS_TO_THE_END = 5


class LogReader:
    """Passes on what a server writes, line by line, from a thread; all but values of metrics."""

    def __init__(self, log: ServerLog, on_line: Callable[[str], None]) -> None:
        """
        Args:
            log: keeps the last lines.
            on_line: is called with every line. After it has raised once, it is called no more.
        """
        self._log = log
        self._on_line: Callable[[str], None] | None = on_line
        self._thread: threading.Thread | None = None

    def follow(self, output: IO[str]) -> None:
        """Read to the end, in a new thread."""
        self._thread = threading.Thread(target=self._read, args=(output,), daemon=True)
        self._thread.start()

    def wait_for_the_end(self) -> None:
        """Wait for the last lines of a server that has ended."""
        if self._thread is not None:
            self._thread.join(timeout=_SECONDS_TO_THE_END)

    def _read(self, output: IO[str]) -> None:
        with output as lines:
            for line in lines:
                if _METRIC in line:
                    continue
                self._log.feed(line.rstrip("\n"))
                if self._on_line is not None:
                    self._pass_on(self._on_line, line.rstrip("\n"))

    def _pass_on(self, on_line: Callable[[str], None], line: str) -> None:
        try:
            on_line(line)
        except Exception:  # whatever it is, the reading must go on
            self._on_line = None
