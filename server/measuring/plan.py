"""Which workers x threads are tried, and what one stretch of measuring gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from d2serve.handlers.spec.model_spec import ModelSpec
from d2serve.server.measuring.figures import Figure, median_of, median_ratio, pooled_percentile

BATCH = 4
"""Images of a batch, where batches are tried."""


class MeasureError(Exception):
    """Nothing can be measured: the message says why and what to do."""


@dataclass(frozen=True, eq=False)
class Subject:
    """An archive to measure."""

    name: str
    """Of its file."""
    folder: Path
    """With its program, unpacked."""
    spec: ModelSpec

    @property
    def title(self) -> str:
        """Runtime and precision."""
        return f"{self.spec.runtime} {self.spec.precision}"


@dataclass(frozen=True)
class Setup:
    """How a server runs a model."""

    workers: int
    threads: int
    """Of each worker."""
    batch: int = 1
    """Images in a call."""

    def __str__(self) -> str:
        return f"{self.workers} x {self.threads}" + (
            f", batches of {self.batch}" if self.batch > 1 else ""
        )


@dataclass(frozen=True)
class Stretch:
    """What one stretch of measuring gave: every worker answered one image after another."""

    rate: float
    """Images a second, of all workers."""
    latencies: tuple[float, ...]
    """Seconds of each call, from the image file's bytes to the reply's."""
    steps: Mapping[str, float]
    """Mean seconds of an image in each step of ``handlers.timing.STEPS``."""
    objects: float
    """Mean of what was found in an image."""


@dataclass(eq=False)
class Cell:
    """An archive with a setup, and what was measured of it."""

    subject: Subject
    setup: Setup
    stretches: dict[int, Stretch] = field(default_factory=dict)
    """By round."""
    memory_mib: float = 0.0
    """Of a worker: its share of what it has in memory, or all of it where that is not known."""
    start_seconds: float = 0.0
    """Until all workers had answered their first images."""

    @property
    def rate(self) -> Figure:
        """Images a second."""
        return median_of([each.rate for each in self.stretches.values()])

    def latency(self, percent: float) -> Figure:
        """Seconds."""
        return pooled_percentile([each.latencies for each in self.stretches.values()], percent)

    def step(self, name: str) -> float:
        """Mean milliseconds of an image in a step."""
        each = [stretch.steps.get(name, 0.0) for stretch in self.stretches.values()]
        return 1000 * median_of(each).value

    @property
    def objects(self) -> float:
        """Mean of what was found in an image."""
        return median_of([each.objects for each in self.stretches.values()]).value

    def ratio(self, other: Cell) -> Figure:
        """How many times as many images a second as another, within the rounds that both had."""
        rounds = sorted(self.stretches.keys() & other.stretches.keys())
        if not rounds:
            return median_of([self.rate.value / other.rate.value])
        mine, theirs = ([each.stretches[r].rate for r in rounds] for each in (self, other))
        return median_ratio(mine, theirs)


def reference_of(cells: Sequence[Cell]) -> Cell:
    """What ratios are to: the best setup of the archive that was named first."""
    first = cells[0].subject
    own = [each for each in cells if each.subject is first and each.setup.batch == 1]
    return max(own, key=lambda each: each.rate.value)


def setups_for(cores: int) -> list[Setup]:
    """Workers x threads over so many cores, from one worker with all of them to a worker each."""
    workers, threads = {1}, 1
    while threads <= cores:
        workers.add(cores // threads)
        threads *= 2
    return [Setup(each, cores // each) for each in sorted(workers)]
