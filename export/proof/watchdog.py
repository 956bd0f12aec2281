"""Ends a process, with its children, when a step of its work takes far too long.

A program may wait for ever, in a lock of a runtime for one; whoever waits for its answer would wait
as long. Each step has a time of its own, so that the error can say which one did not end.
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from types import TracebackType


class Watchdog:
    """Watches one process, started with ``start_new_session=True``, inside a ``with`` block.

    Whatever ends the block early, an interrupt for one, ends the process as well.
    """

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._timer: threading.Timer | None = None
        self.overran: str | None = None
        """The step for which the process was ended, in words; None where it was not."""

    def begin(self, step: str, seconds: float) -> None:
        """The process begins a step, and the one before it is done."""
        self.stop()
        self._timer = threading.Timer(seconds, self._overrun, (f"{step} took longer than", seconds))
        self._timer.daemon = True
        self._timer.start()

    def stop(self) -> None:
        """The last step is done."""
        if self._timer is not None:
            self._timer.cancel()

    def _overrun(self, step: str, seconds: float) -> None:
        self.overran = f"{step} {seconds:.4g} s"
        end_with_children(self._process)

    def __enter__(self) -> Watchdog:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self.stop()
        if kind is not None:
            end_with_children(self._process)


def end_with_children(process: subprocess.Popen[str]) -> None:
    """Kill a process that leads a session of its own, and all that it started there."""
    if process.poll() is not None:
        return
    if hasattr(os, "killpg"):
        os.killpg(process.pid, signal.SIGKILL)
    else:  # Windows has no groups of processes
        process.kill()
