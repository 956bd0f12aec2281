"""The targets, each beside what a run measured: met, or missed and why.

A target is not moved when it is missed. The reason is given instead: reasons.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks.report.reasons import UNKNOWN, of_cold_start, of_growth, of_spread, of_throughput
from benchmarks.served.sides import EAGER, ONNXRUNTIME, OPENVINO, SIDES
from benchmarks.serving.results import BenchResults, SideResult
from d2serve.server.measuring.figures import Figure


@dataclass(frozen=True)
class Judged:
    """One target beside what was measured."""

    figure: str
    target: str
    measured: Figure
    digits: int
    side: str
    """On which it was measured."""
    is_met: bool
    reason: str
    """Why it is missed; empty where it is met."""


def judge(results: BenchResults) -> list[Judged]:
    """Every target whose figure was measured in this run."""
    return [
        *_throughputs(results),
        *_forwards(results),
        *_outside(results),
        *_mask_encoders(results),
        *_beside_eager(results),
        *_long_runs(results),
    ]


def _at_least(
    figure: str, limit: float, measured: Figure, side: str, reason: str = UNKNOWN
) -> Judged:
    is_met = measured.value >= limit
    return Judged(figure, f">= {limit:g}x", measured, 2, side, is_met, "" if is_met else reason)


def _at_most(
    figure: str,
    limit: float,
    measured: Figure,
    side: str,
    reason: str = UNKNOWN,
    unit: str = "x",
    digits: int = 2,
) -> Judged:
    is_met = measured.value <= limit
    target = f"<= {limit:g}{unit}"
    return Judged(figure, target, measured, digits, side, is_met, "" if is_met else reason)


def _ours(results: BenchResults, precision: str) -> dict[str, SideResult]:
    return {
        name: side
        for name, side in results.sides.items()
        if SIDES[name].is_ours and SIDES[name].precision == precision
    }


def _throughputs(results: BenchResults) -> Iterator[Judged]:
    for precision, limit in (("fp32", 2.0), ("bf16", 3.5), ("int8", 5.0)):
        ratios = {
            name: side.summary.throughput_ratio for name, side in _ours(results, precision).items()
        }
        if ratios:
            best = max(ratios, key=lambda name: ratios[name].value)
            reason = of_throughput(results, results.sides[best], results.sides[EAGER], limit)
            label = SIDES[best].label
            yield _at_least(f"throughput, {precision}", limit, ratios[best], label, reason)


def _forwards(results: BenchResults) -> Iterator[Judged]:
    for precision in ("fp32", "bf16"):
        found = {
            f"{SIDES[name].label}, {forward.threads} threads": forward.against_peak
            for name, side in _ours(results, precision).items()
            if side.pieces is not None
            for forward in side.pieces.forwards
            if forward.threads == results.machine.cores
        }
        if found:
            best = min(found, key=lambda name: found[name].value)
            yield _at_most(f"forward by the machine's peak, {precision}", 1.15, found[best], best)


def _outside(results: BenchResults) -> Iterator[Judged]:
    found = {
        name: side.pieces.outside
        for name, side in results.sides.items()
        if SIDES[name].is_ours and side.pieces is not None
    }
    if found:  # the same library in every archive: the slowest is judged
        slowest = max(found, key=lambda name: found[name].value)
        label = f"{SIDES[slowest].label}, the slowest"
        yield _at_most(
            "time outside the forward", 60.0, found[slowest], label, unit=" ms", digits=0
        )


def _mask_encoders(results: BenchResults) -> Iterator[Judged]:
    for whose, timing in results.mask_encoders.items():
        figure = f"masks to RLE by detectron2's, {whose}"
        yield _at_most(figure, 1 / 25, timing.share, f"{timing.masks} masks", digits=3)


def _beside_eager(results: BenchResults) -> Iterator[Judged]:
    eager = results.sides[EAGER]
    for name in (ONNXRUNTIME, OPENVINO):
        if name in results.sides:
            side, label = results.sides[name], SIDES[name].label
            reason = of_cold_start(side, eager)
            yield _at_most(f"cold start, {name}", 0.5, side.cold_start_ratio, label, reason)
            share = side.memory_after_run.rss / eager.memory_after_run.rss
            yield _at_most(f"worker memory, {name}", 0.5, Figure(share, share, share), label)


def _long_runs(results: BenchResults) -> Iterator[Judged]:
    for name, run in results.long_runs.items():
        label = f"{SIDES[name].label}, small model"
        growth = Figure(run.growth, run.growth, run.growth)
        figure = f"memory after {results.plan.many_requests} requests, {name}"
        yield _at_most(figure, 1.05, growth, label, of_growth(results, run), digits=3)
        figure = f"p99/p50 over {results.plan.sizes} image sizes, {name}"
        yield _at_most(figure, 1.3, run.spread, label, of_spread(run))
