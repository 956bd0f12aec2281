"""Times a forward beside the machine's peak in the same seconds, since both drift.

Peak and forward take turns; each forward is compared with the peak just before it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from benchmarks.pieces.peak import peak
from benchmarks.served.sides import Precision
from d2serve.server.measuring.figures import Figure, median_of

_LEAST_RUNS = 2

Result = TypeVar("Result")


@dataclass(frozen=True)
class Forward:
    """The model's forward with one number of threads."""

    threads: int
    precision: Precision
    milliseconds: Figure
    peak: Figure
    """Operations per second that the machine reached in that precision just before."""
    against_peak: Figure
    """The forward's time by the time its work takes at the peak; 1 is the best there is."""


def time_forward(
    run: Callable[[], Result],
    precision: Precision,
    threads: int,
    work: float,
    seconds: float,
) -> tuple[Result, Forward]:
    """Time a forward in turns with the peak.

    Args:
        run: the forward; with that many threads already.
        precision: of the forward, and of the peak that it is compared with.
        threads: of both.
        work: operations of one forward.
        seconds: for all runs of it together; there are two at least.

    Returns:
        What the forward gives, and its timings.
    """
    result = run()  # warm-up: memory is allocated and kernels are chosen
    times: list[float] = []
    peaks: list[float] = []
    while len(times) < _LEAST_RUNS or sum(times) < seconds:
        peaks.append(peak(precision, threads))
        start = time.perf_counter()
        result = run()
        times.append(time.perf_counter() - start)
    return result, Forward(
        threads,
        precision,
        milliseconds=median_of([1000 * each for each in times]),
        peak=median_of(peaks),
        against_peak=median_of([each * rate / work for each, rate in zip(times, peaks)]),
    )
