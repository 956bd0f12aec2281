"""Runs several processes of one server: starts them, replaces one that dies, and ends them all.

KServe's own workers get the models pickled, and its gRPC stays with the parent. Here each process
opens the archives itself and does what a single one does.
"""

from __future__ import annotations

import multiprocessing
import signal
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from types import FrameType
from typing import Any

from d2serve.client.errors import ServerStartError

METRICS_FOLDER = "PROMETHEUS_MULTIPROC_DIR"
"""The variable of prometheus_client with the folder in which the processes' metrics meet."""
_SECONDS_TO_START = 10.0
"""A process that dies before that would die again."""
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class _Stopped(BaseException):
    """A signal came."""


def run_workers(
    count: int,
    work: Callable[..., None],
    arguments: Sequence[Any],
    say: Callable[[str], None],
) -> None:
    """Run processes until a signal comes, and then until they have ended by themselves.

    Args:
        count: of processes.
        work: what each does, until it gets SIGTERM.
        arguments: of that, which have to be picklable.
        say: gets what the user should know.

    Raises:
        ServerStartError: one died soon after its start.
    """
    context = multiprocessing.get_context("spawn")
    began: dict[BaseProcess, float] = {}

    def start() -> None:
        process = context.Process(target=work, args=tuple(arguments))
        process.start()
        began[process] = time.monotonic()

    def stop(_number: int, _frame: FrameType | None) -> None:
        raise _Stopped

    before = {number: signal.signal(number, stop) for number in _SIGNALS}
    try:
        for _ in range(count):
            start()
        while True:
            wait([each.sentinel for each in began])
            for dead in [each for each in began if not each.is_alive()]:
                lived = time.monotonic() - began.pop(dead)
                if lived < _SECONDS_TO_START:
                    raise ServerStartError(
                        f"A process of the server ended after {lived:.0f} s with status "
                        f"{dead.exitcode}: what it wrote above says why."
                    )
                say(f"Process {dead.pid} ended with status {dead.exitcode}; another one starts.")
                start()
    except _Stopped:
        pass
    finally:
        _end(list(began))
        for number, handler in before.items():
            signal.signal(number, handler)


def _end(processes: Sequence[BaseProcess]) -> None:
    """Let each end by itself. A second signal is for all of them, and comes to them directly or
    from here."""

    def hurry(_number: int, _frame: FrameType | None) -> None:
        for each in processes:
            each.terminate()

    for number in _SIGNALS:
        signal.signal(number, hurry)
    for each in processes:
        each.terminate()
    for each in processes:
        each.join()
