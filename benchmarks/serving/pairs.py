"""The memory of two workers of one model: what they share counts once.

PSS divides a page among the processes that map it. They are looked at while no other side has a
worker, which would have its part of the libraries' pages.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from benchmarks.serving.hosts import Hosts
from benchmarks.serving.load import ask_all
from benchmarks.serving.plan import Setup

_ASKED = 2
"""Times that each is asked: a worker's memory is that of one at work."""


@dataclass(frozen=True)
class Pair:
    """Two workers of one side."""

    both: float
    """PSS of both together, MiB."""
    eager: float
    """PSS of one eager worker that was alone, MiB."""

    @property
    def share(self) -> float:
        """Of the two by the one."""
        return self.both / self.eager


def pair_of(
    hosts: Hosts, side: str, cores: int, image: bytes, eager: float | None, pause: float
) -> Pair | None:
    """Start two workers, ask them, and look; None where the system tells no PSS.

    Args:
        hosts: without workers.
        side: to start.
        cores: that the two share.
        image: to ask about.
        eager: PSS of one eager worker, MiB.
        pause: seconds before they are looked at, in which they give back what they do not use.

    Raises:
        ClientError, BenchError: they cannot be started or do not answer.
    """
    if eager is None:
        return None
    served = hosts.start(side, Setup(2, max(1, cores // 2)))
    for _ in range(_ASKED):
        ask_all(served, image)
    time.sleep(pause)
    mean = served.memory().pss
    served.stop()
    return None if mean is None else Pair(2 * mean, eager)
