"""Why: what d2serve promises stands beside what was measured, met or missed, in every run.

A target is not moved when it is missed: the reason is given instead.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from benchmarks.figures import Figure
from benchmarks.results import BenchResults, SideResult
from benchmarks.sides import EAGER, ONNXRUNTIME, OPENVINO, SIDES

# By name of the figure: why the last run missed it.
REASONS: Mapping[str, str] = {
    "throughput, fp32": (
        "the most that this machine allows in fp32 is 1.66x: at its matrix peak, 108 "
        "billion operations a second on a core, the forward alone takes 4.2 s, and eager "
        "answers in 6.9; OpenVINO's forward is at 1.13x of that peak"
    ),
    "throughput, bf16": (
        "the most that this machine allows in bf16 is 3.4x: at its peak the forward takes "
        "2.0 s; ours is at 1.18x of that"
    ),
    "throughput, int8": (
        "the forward is at 1.31x of int8's peak: ROIAlign, NMS, proposals and the layers "
        "before answers are not in int8"
    ),
    "forward by the machine's peak, bf16": (
        "what stays in fp32, and ROIAlign, NMS and top-k, are no matrix work, and weigh more the "
        "faster that work is"
    ),
    "cold start, onnxruntime": (
        "this run still warmed up with a whole full-size forward, 3 s, and inflated its "
        "archive; both have been taken out since"
    ),
    "cold start, openvino": (
        "this run still warmed up with a whole full-size forward, 2.4 s, and inflated its "
        "archive; both have been taken out since"
    ),
    "worker memory, openvino": (
        "OpenVINO keeps the weights as read (177 MB) beside those laid out for its kernels, "
        "and 450 MB for the heads' activations as soon as it has run once"
    ),
    "memory after 1000 requests, tracing": (
        "torch's heap grows with the sizes that it has seen; not looked into further"
    ),
    "memory after 1000 requests, onnxruntime": (
        "6 MB in 900 requests; where they go was not looked into"
    ),
    "memory after 1000 requests, openvino": (
        "45 MB; probably what OpenVINO prepares for each new shape"
    ),
    "p99/p50 over 50 image sizes, tracing": (
        "small images, where fixed costs rule: the same images, seen again, spread as widely"
    ),
    "p99/p50 over 50 image sizes, onnxruntime": (
        "small images, where fixed costs rule: the same images, seen again, spread as widely"
    ),
    "p99/p50 over 50 image sizes, openvino": (
        "small images, where fixed costs rule: seen again, they spread by 1.66; the rest is "
        "what OpenVINO prepares for a shape"
    ),
}


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

    @property
    def reason(self) -> str:
        """Why it is missed; empty where it is met."""
        return "" if self.is_met else REASONS.get(self.figure, "not explained yet")


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


def _at_least(figure: str, limit: float, measured: Figure, side: str) -> Judged:
    return Judged(figure, f">= {limit:g}x", measured, 2, side, measured.value >= limit)


def _at_most(
    figure: str, limit: float, measured: Figure, side: str, unit: str = "x", digits: int = 2
) -> Judged:
    target = f"<= {limit:g}{unit}"
    return Judged(figure, target, measured, digits, side, measured.value <= limit)


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
            yield _at_least(f"throughput, {precision}", limit, ratios[best], SIDES[best].label)


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
        yield _at_most("time outside the forward", 60.0, found[slowest], label, " ms", 0)


def _mask_encoders(results: BenchResults) -> Iterator[Judged]:
    for whose, timing in results.mask_encoders.items():
        figure = f"masks to RLE by detectron2's, {whose}"
        yield _at_most(figure, 1 / 25, timing.share, f"{timing.masks} masks", digits=3)


def _beside_eager(results: BenchResults) -> Iterator[Judged]:
    eager = results.sides[EAGER].memory_after_run.rss
    for name in (ONNXRUNTIME, OPENVINO):
        if name in results.sides:
            side, label = results.sides[name], SIDES[name].label
            yield _at_most(f"cold start, {name}", 0.5, side.cold_start_ratio, label)
            share = side.memory_after_run.rss / eager
            yield _at_most(f"worker memory, {name}", 0.5, Figure(share, share, share), label)


def _long_runs(results: BenchResults) -> Iterator[Judged]:
    for name, run in results.long_runs.items():
        label = f"{SIDES[name].label}, small model"
        growth = Figure(run.growth, run.growth, run.growth)
        figure = f"memory after {results.plan.many_requests} requests, {name}"
        yield _at_most(figure, 1.05, growth, label, digits=3)
        figure = f"p99/p50 over {results.plan.sizes} image sizes, {name}"
        yield _at_most(figure, 1.3, run.spread, label)
