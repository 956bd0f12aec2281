"""How a command that runs until it is stopped learns of Ctrl-C and SIGTERM."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType

_STOPPING = (signal.SIGINT, signal.SIGTERM)


class StopRequested(BaseException):
    """Ctrl-C or SIGTERM: not an error, and nothing on the way may take it for one."""


@contextlib.contextmanager
def stopped_by_signals() -> Iterator[None]:
    """Raise StopRequested within where the user or the system asks the process to stop."""

    def stop(_number: int, _frame: FrameType | None) -> None:
        _ignore_signals()
        raise StopRequested

    before = {number: signal.signal(number, stop) for number in _STOPPING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _ignore_signals() -> None:
    """While the server is being stopped, an impatient second Ctrl-C must not leave it running."""
    for number in _STOPPING:
        signal.signal(number, signal.SIG_IGN)
