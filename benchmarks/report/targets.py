"""The targets, each beside what a run measured: met, or missed and why.

A target is not moved when it is missed. The reason is given instead: reasons.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from benchmarks.report.reasons import (
    UNKNOWN,
    of_cold_start,
    of_forward,
    of_growth,
    of_masks,
    of_new_sizes,
    of_pair,
    of_throughput,
)
from benchmarks.served.sides import EAGER, ONNXRUNTIME, OPENVINO, SIDES, TRACING
from benchmarks.serving.long_run import first_by_again
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
        *_layers(results),
        *_parts(results),
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
    for precision, limit in (("fp32", 2.6), ("bf16", 3.5), ("int8", 5.0)):
        yield from _best_throughput(results, precision, limit, _ours(results, precision))
    onnxruntime = {name: results.sides[name] for name in (ONNXRUNTIME,) if name in results.sides}
    yield from _best_throughput(results, "fp32 in ONNX Runtime", 1.8, onnxruntime)


def _best_throughput(
    results: BenchResults, what: str, limit: float, sides: Mapping[str, SideResult]
) -> Iterator[Judged]:
    ratios = {name: side.summary.throughput_ratio for name, side in sides.items()}
    if ratios:
        best = max(ratios, key=lambda name: ratios[name].value)
        reason = of_throughput(results, best, limit)
        yield _at_least(f"throughput, {what}", limit, ratios[best], SIDES[best].label, reason)


def _layers(results: BenchResults) -> Iterator[Judged]:
    for each in results.layers:
        figure = f"3x3 convolutions by OpenVINO's, {each.way}"
        yield _at_most(figure, 0.35, each.share, "one thread, without a server")


def _parts(results: BenchResults) -> Iterator[Judged]:
    for name, parts in results.parts.items():
        label = SIDES[name].label
        yield _at_least(f"masks=none by all masks, {name}", 1.2, parts.no_masks, label)
        few = results.plan.few_instances
        figure = f"time of score_thresh leaving {few} by max_detections={few}, {name}"
        yield _at_most(figure, 1.05, parts.above, label)


def _forwards(results: BenchResults) -> Iterator[Judged]:
    for precision, limit in (("fp32", 1.15), ("bf16", 1.1)):
        found = {
            f"{SIDES[name].label}, {forward.threads} threads": (side, forward)
            for name, side in _ours(results, precision).items()
            if side.pieces is not None
            for forward in side.pieces.forwards
            if forward.threads == results.machine.cores
        }
        if found:
            best = min(found, key=lambda name: found[name][1].against_peak.value)
            side, forward = found[best]
            figure = f"forward by the machine's peak, {precision}"
            reason = of_forward(side, forward)
            yield _at_most(figure, limit, forward.against_peak, best, reason)


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
        on, reason = f"{timing.masks} masks", of_masks(results, whose)
        yield _at_most(figure, 1 / 25, timing.share, on, reason, digits=3)


def _beside_eager(results: BenchResults) -> Iterator[Judged]:
    eager = results.sides[EAGER]
    for name, limit in ((TRACING, 0.6), (ONNXRUNTIME, 0.4), (OPENVINO, 0.5)):
        if name in results.sides:
            side, label = results.sides[name], SIDES[name].label
            reason = of_cold_start(side, eager)
            yield _at_most(f"cold start, {name}", limit, side.cold_start_ratio, label, reason)
    for name in (ONNXRUNTIME, OPENVINO):
        if name in results.sides:
            side, label = results.sides[name], SIDES[name].label
            share = side.memory_after_run.rss / eager.memory_after_run.rss
            yield _at_most(f"worker memory, {name}", 0.5, _point(share), label)
    for name, pair in results.pairs.items():
        figure, label = f"memory of two workers by one of eager, {name}", SIDES[name].label
        yield _at_most(figure, 0.8, _point(pair.share), f"{label}, PSS", of_pair(pair))


def _long_runs(results: BenchResults) -> Iterator[Judged]:
    for name, run in results.long_runs.items():
        label = f"{SIDES[name].label}, small model"
        figure = f"memory after {results.plan.many_requests} requests, {name}"
        yield _at_most(figure, 1.05, _point(run.growth), label, of_growth(results, run), digits=3)
        figure = f"p99 of {results.plan.sizes} new sizes by that of the same again, {name}"
        yield _at_most(figure, 1.15, first_by_again(run.fresh), label, of_new_sizes(run))


def _point(value: float) -> Figure:
    return Figure(value, value, value)
