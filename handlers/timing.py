"""Measures where a request's time goes: each request carries its own times.

A clock that the requests of a batch shared could not part them.
"""

from __future__ import annotations

from dataclasses import dataclass
from time import perf_counter

STEPS = ("decode", "preprocess", "forward", "postprocess", "encode")
"""From the request's bytes to the reply's, in order."""

Seconds = dict[str, float]
"""How long each step took that has been done, by its name."""


class Stopwatch:
    """Measures one step after another."""

    def __init__(self) -> None:
        self._last = perf_counter()

    def lap(self) -> float:
        """Seconds since the last lap, or since the beginning."""
        now = perf_counter()
        seconds, self._last = now - self._last, now
        return seconds


@dataclass(frozen=True, eq=False)
class ProgramCall:
    """One call of the program, which is the same object for all images that shared it."""

    images: int
    seconds: float
