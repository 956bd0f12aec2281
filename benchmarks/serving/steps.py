"""Where the time of the run itself goes: it must stay short."""

from __future__ import annotations

import time

from d2serve.export.request import Progress


class Steps:
    """Shows steps as they begin and keeps how long each took."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._begun: list[tuple[str, float]] = []

    def begin(self, name: str, parts: int) -> None:
        """End the step before and begin another, of so many parts (0: not known)."""
        self._begun.append((name, time.monotonic()))
        self._progress.begin(name, parts)

    def advance(self) -> None:
        """One part of the step is done."""
        self._progress.advance()

    def seconds_so_far(self) -> float:
        """Since the first step began."""
        return time.monotonic() - self._begun[0][1]

    def durations(self) -> dict[str, float]:
        """Seconds by step; the last one ends now."""
        ends = [*(start for _, start in self._begun[1:]), time.monotonic()]
        return {name: end - start for (name, start), end in zip(self._begun, ends)}
