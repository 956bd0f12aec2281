"""How long a worker needs until its first answer, which scaling out and recovering wait for.

A server is given a side, with one worker that has every core: from the registration until the
worker is READY, and until its first answer. TorchServe unpacks the archive each time; files come
from the page cache after the first time. FastAPI's process is timed from its start.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.serving.hosts import Hosts, Served
from benchmarks.serving.plan import Setup
from benchmarks.shared.memory import Memory
from d2serve.server.measuring.figures import Figure, median_of


@dataclass(frozen=True)
class Start:
    """One start of one side; seconds."""

    until_ready: float
    """From the registration until its worker is READY. Ours is warmed up by then."""
    first_answer: float
    """From the first request, sent then, to its answer."""
    memory: Memory
    """Of the one worker after that answer."""

    @property
    def total(self) -> float:
        """From the registration to the first answer."""
        return self.until_ready + self.first_answer


@dataclass(frozen=True)
class ColdStart:
    """All starts of one side."""

    starts: tuple[Start, ...]
    until_ready: Figure
    first_answer: Figure
    total: Figure
    memory: Memory
    """After the last of them."""


def start_cold(hosts: Hosts, side: str, setup: Setup, image: bytes) -> tuple[Served, Start, bytes]:
    """Start a side and ask it once; it goes on being served.

    Returns:
        The side, how long that took, and the reply.

    Raises:
        ClientError, BenchError: it cannot be started or does not answer.
    """
    begin = time.perf_counter()
    served = hosts.start(side, setup)
    ready = time.perf_counter()
    reply = served.asks[0](image)
    answered = time.perf_counter()
    return served, Start(ready - begin, answered - ready, served.memory()), reply


def cold_start_of(starts: Sequence[Start]) -> ColdStart:
    """Medians of a side's starts."""
    return ColdStart(
        tuple(starts),
        median_of([start.until_ready for start in starts]),
        median_of([start.first_answer for start in starts]),
        median_of([start.total for start in starts]),
        starts[-1].memory,
    )
