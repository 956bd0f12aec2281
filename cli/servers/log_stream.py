"""What ``d2serve serve`` writes to its standard output while it serves: TorchServe's log."""

from __future__ import annotations

import sys
from collections.abc import Callable
from enum import Enum

from d2serve.handlers.torchserve.request_line import JSON, LOG_FORMAT, TEXT
from d2serve.server.torchserve.logs.json_lines import JsonLines


class LogFormat(str, Enum):
    """How the log is written: for people, or for what collects logs."""

    text = TEXT
    json = JSON

    @property
    def environment(self) -> dict[str, str]:
        """What tells workers of it."""
        return {LOG_FORMAT: self.value}


class LogStream:
    """Passes TorchServe's lines on once it is ready; before, they would bury what matters."""

    def __init__(self, log_format: LogFormat, saw: Callable[[str], None]) -> None:
        """
        Args:
            log_format: of what is written.
            saw: is called with every line, at once.
        """
        self.is_open = False
        self._saw = saw
        self._json = JsonLines(_write) if log_format is LogFormat.json else None

    def __call__(self, line: str) -> None:
        self._saw(line)
        if self.is_open:
            (self._json or _write)(line)

    def close(self) -> None:
        """Write what may be left; call it when TorchServe has ended."""
        if self._json is not None:
            self._json.close()


def _write(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
