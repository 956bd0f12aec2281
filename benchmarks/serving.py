"""Why: every side is served by a real TorchServe, and measured in turns with the others.

There is one server for each setup (workers x threads), since OMP_NUM_THREADS belongs to a server's
environment. All sides are registered on each; a worker that gets no requests waits on its socket.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from benchmarks.memory import Memory, memory_of
from benchmarks.plan import Setup
from d2serve.client.responses import Prediction
from d2serve.client.server import TorchServeProcess

Servers = Mapping[Setup, TorchServeProcess]


@contextmanager
def serving(archives: Mapping[str, Path], setups: Sequence[Setup]) -> Iterator[Servers]:
    """Start a server for each setup, with every side on it.

    Args:
        archives: by side.
        setups: what to start.

    Raises:
        ClientError: TorchServe does not start, or a worker does not load its model.
    """
    with ExitStack() as stack:
        servers: dict[Setup, TorchServeProcess] = {}
        for setup in setups:
            server = TorchServeProcess(
                archives, environment={"OMP_NUM_THREADS": str(setup.threads)}
            )
            servers[setup] = stack.enter_context(server)
            for side in archives:  # the archives ask for one worker
                server.management.scale(side, min_worker=setup.workers)
                server.management.wait_ready(side)
        yield servers


def warmed_up(
    server: TorchServeProcess, setup: Setup, sides: Sequence[str], image: bytes, warm_ups: int
) -> dict[str, Prediction]:
    """Send every worker its first requests; the last answer of each side."""
    answers = {}
    with ThreadPoolExecutor(setup.workers) as clients:
        for side in sides:
            images = [image] * (warm_ups * setup.workers)
            answers[side] = list(clients.map(partial(server.http.predict, side), images))[-1]
    return answers


def keep_only(servers: Servers, chosen: Mapping[str, Setup]) -> None:
    """End the workers of every setup that a side was not measured best with."""
    for setup, server in servers.items():
        for side, best in chosen.items():
            if best != setup:
                server.management.scale(side, min_worker=0)


def worker_memory(server: TorchServeProcess, side: str) -> Memory:
    """Mean memory of a side's workers."""
    return memory_of([w.pid for model in server.management.describe(side) for w in model.workers])
