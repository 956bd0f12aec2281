"""Measures archives with every setup, in turns, as long as there is time.

One after the other they would be measured on different machines, for a machine's speed drifts. So a
round is one stretch of each, and ratios are formed within it. After two rounds only the setups that
may be the best go on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import psutil

from d2serve.server.measuring.images import Images
from d2serve.server.measuring.plan import BATCH, Cell, MeasureError, Setup, Subject
from d2serve.server.measuring.pool import Pool

MOST_ROUNDS = 5
_NEAR_BEST = 0.8
"""Of an archive's best rate: what stays below it is not the best."""
_MOST_MEMORY = 0.8
"""Of what is free."""
_LONGEST, _SHORTEST = 8.0, 0.5
"""Seconds of a stretch."""
_GUESSED_MIB = 300.0
"""Of a worker, before any was seen."""

Report = Callable[[str, float], None]
"""Told what is measured next, and the share of all that is done, 0 to 1."""


@dataclass
class Measured:
    """What there is so far."""

    cells: list[Cell] = field(default_factory=list)
    """Those that were measured."""
    rounds: int = 0
    seconds: float = 0.0
    interrupted: bool = False
    notes: list[str] = field(default_factory=list)
    """What was left out, and why."""


class Session:
    """One run of measuring; Ctrl-C ends it with what there is."""

    def __init__(self, images: Images, budget: float, report: Report) -> None:
        """
        Args:
            images: that each worker answers in turn.
            budget: seconds to take, about.
            report: is told how far it is.
        """
        self._images, self._budget, self._report = images, budget, report
        self._pools: dict[int, Pool] = {}
        """By the id of its cell, the one that was used longest ago first."""
        self._memory: dict[str, float] = {}
        self._warm_up = 0.0
        self._begun = time.monotonic()
        self.measured = Measured()

    def run(self, subjects: Sequence[Subject], setups: Sequence[Setup]) -> Measured:
        """Measure.

        Raises:
            MeasureError: an archive cannot answer.
        """
        measured = self.measured
        cells = [Cell(subject, setup) for setup in setups for subject in subjects]
        length = self._length(len(cells))
        self._warm_up = 2 * length
        try:
            self._first_round(cells, length)
            if self._fits(measured.cells, length):  # a stretch that was disturbed decides nothing
                self._round(measured.cells, length)
            contenders = self._contenders(subjects)
            length = min(_LONGEST, max(length, self._left() / (4 * len(contenders))))
            while measured.rounds < MOST_ROUNDS and self._fits(contenders, length):
                self._round(contenders, length)
        except KeyboardInterrupt:
            measured.interrupted = True
        finally:
            for pool in self._pools.values():
                pool.close()
            measured.cells = [cell for cell in measured.cells if cell.stretches]
            measured.seconds = time.monotonic() - self._begun
        return measured

    def _length(self, cells: int) -> float:
        """Seconds of a stretch in the first round, which has to start every worker as well."""
        return min(_LONGEST, max(_SHORTEST, self._budget / (6 * cells)))

    def _first_round(self, cells: Sequence[Cell], length: float) -> None:
        self.measured.rounds = 1
        archives = len({cell.subject for cell in cells})
        for number, cell in enumerate(cells):
            if self._left() < 0 and number >= archives:  # each is measured once at least
                left = [each for each in cells if not each.stretches]
                self.measured.notes.append(
                    f"The time was over before {len(left)} of {len(cells)} combinations were "
                    "tried: give more with --seconds."
                )
                return
            needed = cell.setup.workers * self._memory_of(cell)
            if cell.setup.workers > 1 and needed > _MOST_MEMORY * self._free():
                self.measured.notes.append(
                    f"{cell.subject.name} with {cell.setup.workers} workers was left out: they "
                    f"would take {needed / 1024:.1f} GiB, and {self._free() / 1024:.1f} are free."
                )
                continue
            self._measure(cell, length)

    def _round(self, cells: Sequence[Cell], length: float) -> None:
        """There and back: none is always the first after a pause."""
        self.measured.rounds += 1
        for cell in list(cells)[:: 1 if self.measured.rounds % 2 else -1]:
            self._measure(cell, length)

    def _contenders(self, subjects: Sequence[Subject]) -> list[Cell]:
        """What may be an archive's best setup; and that with batches, where its program takes
        them."""
        kept = []
        for subject in subjects:
            own = [cell for cell in self.measured.cells if cell.subject is subject]
            best = max(own, key=lambda each: each.rate.high, default=None)
            if best is None:
                continue
            kept += [each for each in own if each.rate.high >= _NEAR_BEST * best.rate.high]
            if subject.spec.dynamic_batch:
                kept.append(Cell(subject, replace(best.setup, batch=BATCH)))
        return kept

    def _fits(self, cells: Sequence[Cell], length: float) -> bool:
        starts = sum(each.start_seconds for each in cells if id(each) not in self._pools)
        slowest = sum(
            max(length, 2 * max(each.latency(100).value if each.stretches else 0.0, 0.0))
            for each in cells
        )
        return bool(cells) and starts + slowest <= self._left()

    def _measure(self, cell: Cell, length: float) -> None:
        done = min(1.0, (time.monotonic() - self._begun) / self._budget)
        self._report(f"{cell.subject.name}, {cell.setup}", done)
        pool = self._pool(cell)
        cell.stretches[self.measured.rounds] = pool.run(length)
        cell.memory_mib = pool.memory_mib()
        self._memory[cell.subject.name] = max(self._memory_of(cell, 0.0), cell.memory_mib)
        if cell not in self.measured.cells:
            self.measured.cells.append(cell)

    def _pool(self, cell: Cell) -> Pool:
        """The cell's workers, which are kept as long as the memory has room for all."""
        pool = self._pools.pop(id(cell), None)
        if pool is None:
            needed = cell.setup.workers * self._memory_of(cell)
            while self._pools and needed > _MOST_MEMORY * self._free():
                self._pools.pop(next(iter(self._pools))).close()
            pool = Pool(cell.subject, cell.setup, self._images.files, self._warm_up)
            cell.start_seconds = pool.start_seconds
            self._note_refused(pool)
        self._pools[id(cell)] = pool
        return pool

    def _note_refused(self, pool: Pool) -> None:
        for index, why in pool.refused.items():
            note = f"{self._images.names[index]} is left out: {why}"
            if note not in self.measured.notes:
                self.measured.notes.append(note)

    def _memory_of(self, cell: Cell, otherwise: float = _GUESSED_MIB) -> float:
        return self._memory.get(cell.subject.name, otherwise)

    def _free(self) -> float:
        return float(psutil.virtual_memory().available / (1024 * 1024))

    def _left(self) -> float:
        return self._budget - (time.monotonic() - self._begun)


def measure(
    subjects: Sequence[Subject],
    setups: Sequence[Setup],
    images: Images,
    budget: float,
    report: Report,
) -> Measured:
    """See ``Session``.

    Raises:
        MeasureError: an archive cannot answer.
    """
    if not budget > 0:
        raise MeasureError(f"--seconds is {budget:g}, expected more than 0.")
    return Session(images, budget, report).run(subjects, setups)
