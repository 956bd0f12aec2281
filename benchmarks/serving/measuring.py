"""Measures the sides in turns.

One after the other, they would be measured on different machines, for a machine's speed drifts.
So a round is one load on each side, and ratios are formed within it.

To find its best workers x threads, a side is started with each setup and tried briefly. The start
with one worker is its cold start, too: every start costs seconds of the run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from benchmarks.served.sides import EAGER, SIDES
from benchmarks.serving.agreement import Agreement, Workload, agreement_of, workload_of
from benchmarks.serving.cold_start import Start, start_cold
from benchmarks.serving.hosts import Hosts, Served
from benchmarks.serving.load import Load, ask_all, closed_loop
from benchmarks.serving.plan import BenchPlan, Setup, requests_in, seconds_for_a_side


@dataclass(frozen=True)
class Probe:
    """One setup of one side, tried briefly."""

    setup: Setup
    throughput: float
    """Images per second."""
    median_latency: float
    """Seconds."""


@dataclass(frozen=True)
class Tried:
    """What is known of a side when it goes into the rounds."""

    served: Served
    """With its best setup."""
    probes: tuple[Probe, ...]
    start: Start
    agreement: Agreement | None
    """The one with the fewest instances within bounds over all setups."""


class Trials:
    """Tries sides, eager first, whose answers the others are compared with."""

    def __init__(self, hosts: Hosts, plan: BenchPlan, image: bytes, setups: Sequence[Setup]):
        self._hosts = hosts
        self._plan = plan
        self._image = image
        self._setups = setups  # the first has one worker
        self._expected: dict[Setup, dict[str, Any]] = {}

    @property
    def workload(self) -> Workload:
        """What is in eager's answer."""
        return workload_of(self._expected[self._setups[0]], self._plan.detections)

    def try_side(self, side: str) -> Tried:
        """Start a side with each setup, leave it running with the best.

        Raises:
            BenchError: it does not answer what it should.
        """
        best: tuple[Probe, Served] | None = None
        probes: list[Probe] = []
        agreements: list[Agreement] = []
        start: Start | None = None
        for setup in self._setups:
            if start is None:
                served, start, reply = start_cold(self._hosts, side, setup, self._image)
            else:
                served = self._hosts.start(side, setup)
                reply = ask_all(served, self._image)[-1]
            agreements += self._compared(served, orjson.loads(reply))
            probes.append(self._probe(served))
            if best is None:
                best = probes[-1], served
                continue
            # The slower one ends at once, for the sake of memory.
            slower, best = sorted((best, (probes[-1], served)), key=lambda e: e[0].throughput)
            slower[1].stop()
        assert best is not None and start is not None  # noqa: PT018 - there is a setup
        worst = min(agreements, key=lambda each: each.within_bounds, default=None)
        return Tried(best[1], tuple(probes), start, worst)

    def _compared(self, served: Served, reply: Any) -> list[Agreement]:
        if served.side == EAGER:
            self._expected[served.setup] = reply
            return []
        bounds = SIDES[served.side].bounds
        if bounds is None:
            return []
        return [agreement_of(served.side, bounds, self._expected[served.setup], reply)]

    def _probe(self, served: Served) -> Probe:
        workers = served.setup.workers
        requests = max(self._plan.probe_requests // workers, 1) * workers
        load = closed_loop(served, self._image, requests, least_instances(self._plan, served.side))
        return Probe(
            served.setup, load.throughput, sorted(load.latencies)[len(load.latencies) // 2]
        )


def least_instances(plan: BenchPlan, side: str) -> int:
    """Instances that an answer must have: all, but for a low precision, of which none are asked."""
    bounds = SIDES[side].bounds
    return plan.detections if bounds is None else int(plan.detections * bounds.share)


def measure_rounds(
    tried: Mapping[str, Tried],
    image: bytes,
    plan: BenchPlan,
    seconds_left: float,
    advance: Callable[[], None],
) -> dict[str, tuple[Load, ...]]:
    """The rounds of every side, in turns.

    Args:
        tried: by side.
        image: an encoded picture.
        plan: of the run.
        seconds_left: for all rounds together; each side gets the same part of it.
        advance: called after each load.
    """
    seconds = seconds_for_a_side(plan, seconds_left)
    loads: dict[str, list[Load]] = {side: [] for side in tried}
    for _ in range(plan.rounds):
        for side, each in tried.items():
            served = each.served
            throughput = max(probe.throughput for probe in each.probes)
            requests = requests_in(plan, seconds, throughput, served.setup.workers)
            least = least_instances(plan, side)
            loads[side].append(closed_loop(served, image, requests, least))
            advance()
    return {side: tuple(each) for side, each in loads.items()}
