"""Lets requests be answered before a server that was told to stop is stopped."""

from __future__ import annotations

import time

from d2serve.cli.progress import error_console, note
from d2serve.cli.servers.stopping import StopRequested, stopped_by_signals
from d2serve.client.draining import Load
from d2serve.client.errors import ClientError
from d2serve.server.torchserve.process import TorchServeProcess

_SECONDS_BETWEEN_LINES = 1.0


def drained(server: TorchServeProcess, seconds: float) -> bool:
    """Wait until the server has answered what it was asked, for so many seconds at most, or until
    Ctrl-C or SIGTERM comes once more; say what is waited for, and return whether it has."""
    if not seconds:
        return False
    error_console.print(
        f"Draining: what was asked is answered first, within {seconds:g} s; Ctrl-C again to stop "
        "at once.",
        highlight=False,
        soft_wrap=True,
    )
    shown = _ShownLoad()
    try:
        with stopped_by_signals():
            if server.drain(seconds, shown.show):
                return True
    except StopRequested:
        error_console.print("Stopping at once.")
    except ClientError as error:
        note(f"It is not known whether requests are lost: {error}")
    else:
        if server.is_running():
            note(f"{shown.requests} not answered within {seconds:g} s, and lost: --drain-seconds.")
    return False


class _ShownLoad:
    """Prints how many requests are waited for, when that has changed."""

    def __init__(self) -> None:
        self.requests = "Requests were"
        self._count = 0
        self._next = 0.0

    def show(self, load: Load) -> None:
        count = load.waiting + load.busy
        self.requests = "1 request was" if count == 1 else f"{count} requests were"
        if count and count != self._count and time.monotonic() >= self._next:
            error_console.print(
                f"Draining: {count} request{'s' * (count != 1)}; Ctrl-C again to stop at once.",
                highlight=False,
            )
            self._count, self._next = count, time.monotonic() + _SECONDS_BETWEEN_LINES
