"""Why: scaling out and recovering take as long as a worker needs until its first answer.

A server without models is given each side in turn through the management API, with one worker that
has every core: from the registration until the worker is READY, and until its first answer.
TorchServe unpacks the archive each time; files come from the page cache after the first time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.figures import Figure, median_of
from benchmarks.memory import Memory
from benchmarks.plan import Setup
from benchmarks.serving import worker_memory
from d2serve.client.server import TorchServeProcess


@dataclass(frozen=True)
class ColdStart:
    """Of one side; seconds."""

    until_ready: Figure
    """From the registration until its worker is READY. Ours is warmed up by then."""
    first_answer: Figure
    """From the first request, sent then, to its answer."""
    total: Figure
    memory: Memory
    """Of the one worker when it was READY, with no other model on the machine's server."""


def cold_starts(
    archives: Mapping[str, Path],
    cores: int,
    image: bytes,
    repeats: int,
    advance: Callable[[], None],
) -> dict[str, ColdStart]:
    """Measure every side, in turns.

    Args:
        archives: by side; all in one folder.
        cores: threads of the worker.
        image: an encoded picture.
        repeats: how often each side is started.
        advance: called after each start.

    Raises:
        ClientError: a model cannot be registered or does not answer.
    """
    store = next(iter(archives.values())).parent
    ready: dict[str, list[float]] = {side: [] for side in archives}
    answered: dict[str, list[float]] = {side: [] for side in archives}
    memory: dict[str, Memory] = {}
    alone = Setup(workers=1, threads=cores)
    with TorchServeProcess(
        model_store=store,
        enable_model_api=True,
        environment={"OMP_NUM_THREADS": str(alone.threads)},
    ) as server:
        for _ in range(repeats):
            for side, archive in archives.items():
                start = time.perf_counter()
                server.management.register(archive.name, model_name=side)
                loaded = time.perf_counter()
                memory[side] = worker_memory(server, side)
                asked = time.perf_counter()
                server.http.predict(side, image)
                answered[side].append(time.perf_counter() - asked)
                ready[side].append(loaded - start)
                server.management.unregister(side)
                advance()
    return {
        side: ColdStart(
            median_of(ready[side]),
            median_of(answered[side]),
            median_of([sum(pair) for pair in zip(ready[side], answered[side])]),
            memory[side],
        )
        for side in archives
    }
