"""The figures of the served sides, one table for each question."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.pieces.request import AROUND
from benchmarks.served.sides import EAGER, SIDES, WINOGRAD_AND_DIRECT
from benchmarks.serving.results import BenchResults, SideResult
from benchmarks.serving.summary import PERCENTS
from benchmarks.shared.table import Table, spread
from d2serve.server.measuring.figures import median_ratio


def summary(results: BenchResults) -> Table:
    """Each side in a line."""
    eager = results.sides[EAGER].memory_after_run.rss
    return Table(
        "Side by side",
        "Ratios are to the eager handler of the same run: of images per second higher is better, "
        "of cold start and memory lower. Latency is what a client sees at that throughput. The "
        "tables below have the ranges.",
        ("side", "images/s", "ratio", "latency p50, s", "cold start", "memory of a worker"),
        tuple(
            (
                SIDES[name].label,
                f"{side.summary.throughput.value:.2f}",
                f"**{side.summary.throughput_ratio.value:.2f}x**",
                f"{side.summary.latency['p50'].value:.2f}",
                f"{side.cold_start_ratio.value:.2f}x",
                f"{side.memory_after_run.rss / eager:.2f}x",
            )
            for name, side in results.sides.items()
        ),
    )


def winograd(results: BenchResults) -> Table:
    """fp32 with Winograd's convolution and with direct ones only."""

    def rows() -> Iterator[tuple[str, ...]]:
        for name, direct in WINOGRAD_AND_DIRECT:
            if name in results.sides and direct in results.sides:
                ours, without = results.sides[name], results.sides[direct]
                rates = [[each.throughput for each in side.rounds] for side in (ours, without)]
                yield (
                    SIDES[name].label,
                    spread(without.summary.throughput, 3),
                    spread(ours.summary.throughput, 3),
                    spread(median_ratio(*rates), 2),
                    _forward_ms(without),
                    _forward_ms(ours),
                    f"{without.memory_after_run.rss:.0f}",
                    f"{ours.memory_after_run.rss:.0f}",
                )

    return Table(
        "fp32 with Winograd's convolution and without",
        "The same archive with `convolution: direct` and, as it is, with `convolution: auto`. "
        "Ratio: images per second with by without, of the same round. Forward in milliseconds "
        "with all cores, RSS of a worker in MiB after the run.",
        (
            *("runtime", "images/s, direct", "images/s, auto", "ratio"),
            *("forward, direct", "forward, auto", "RSS, direct", "RSS, auto"),
        ),
        tuple(rows()),
    )


def _forward_ms(side: SideResult) -> str:
    forwards = () if side.pieces is None else side.pieces.forwards
    return spread(forwards[-1].milliseconds, 0) if forwards else ""


def throughput(results: BenchResults) -> Table:
    """Images per second, and the ratio to eager."""
    return Table(
        "Throughput, images per second",
        f"Median of {results.plan.rounds} rounds (lowest to highest), closed loop with as many "
        "clients as workers. Ratio: to the eager handler in the same round; higher is better.",
        ("side", "workers x threads", "requests", "images/s", "ratio to eager"),
        tuple(
            (
                SIDES[name].label,
                str(side.setup),
                str(sum(len(load.latencies) for load in side.rounds)),
                spread(side.summary.throughput, 3),
                spread(side.summary.throughput_ratio, 2),
            )
            for name, side in results.sides.items()
        ),
    )


def latency(results: BenchResults) -> Table:
    """Percentiles, as clients see them."""
    return Table(
        "Latency, seconds",
        "Of the same requests, as the client sees them, with as many clients as workers: "
        "percentiles over all rounds (lowest to highest of the rounds' own). With few requests, "
        "p99 is close to the slowest one. Ratio: to the eager handler in the same round; lower is "
        "better.",
        ("side", *(f"p{p}" for p in PERCENTS), "ratio of p50 to eager"),
        tuple(
            (
                SIDES[name].label,
                *(spread(side.summary.latency[f"p{p}"], 2) for p in PERCENTS),
                spread(side.summary.latency_ratio["p50"], 2),
            )
            for name, side in results.sides.items()
        ),
    )


def outside(results: BenchResults) -> Table:
    """What surrounds the forward."""
    eager = results.sides[EAGER].pieces
    return Table(
        "Time outside the model's forward, milliseconds in one thread",
        "In one process without a server; medians, with lowest to highest for the sum. Ratio: of "
        "the sums. FastAPI's side runs the eager handler's functions; the torchvision example "
        "resizes and pastes within its model.",
        ("side", *AROUND, "outside the forward", "ratio to eager"),
        tuple(
            (
                SIDES[name].label,
                *(f"{side.pieces.around[step].value:.1f}" for step in AROUND),
                spread(side.pieces.outside, 0),
                "" if eager is None else f"{side.pieces.outside.value / eager.outside.value:.3f}",
            )
            for name, side in results.sides.items()
            if side.pieces is not None
        ),
    )


def forward(results: BenchResults) -> Table:
    """The forward beside the machine's peak."""

    def rows() -> Iterator[tuple[str, ...]]:
        for name, side in results.sides.items():
            for each in side.pieces.forwards if side.pieces is not None else ():
                yield (
                    SIDES[name].label,
                    str(each.threads),
                    spread(each.milliseconds, 0),
                    f"{each.precision}: {each.peak.value / 1e9:.0f}",
                    spread(each.against_peak, 2),
                )

    work = results.model_operations
    return Table(
        "The model's forward, beside the machine's measured peak",
        f"One forward is {work / 2e9:.1f} billion multiplications with an addition. Peak: the best "
        "of torch's large matrix products and convolutions in that precision and with as many "
        "threads, just before each forward, in billions of operations (two of them a "
        "multiplication with an addition) per second. Last column: the forward's time by the time "
        "of its work at the peak. The peak counts multiplications as matrix products have them; "
        "Winograd's convolution has fewer, so a forward may take less than 1.",
        ("side", "threads", "forward, ms", "peak", "forward by peak"),
        tuple(rows()),
    )


def cold_start(results: BenchResults) -> Table:
    """From the registration to the first answer."""
    return Table(
        "Cold start, seconds",
        f"Registration with one worker of {results.machine.cores} threads on a running server "
        "(FastAPI: start of its process); median (lowest to highest). d2serve's workers have run "
        "their warm-up by the time they are READY. Ratio: to the eager handler in the same turn.",
        ("side", "starts", "until READY", "first answer then", "total", "ratio to eager"),
        tuple(
            (
                SIDES[name].label,
                str(len(side.cold_start.starts)),
                spread(side.cold_start.until_ready, 1),
                spread(side.cold_start.first_answer, 1),
                spread(side.cold_start.total, 1),
                spread(side.cold_start_ratio, 2),
            )
            for name, side in results.sides.items()
        ),
    )


def memory(results: BenchResults) -> Table:
    """RSS and PSS of workers."""

    def pss(value: float | None) -> str:
        return "not told by this system" if value is None else f"{value:.0f}"

    eager = results.sides[EAGER].memory_after_run.rss
    return Table(
        "Memory of a worker, MiB",
        "After the first answer: of the one worker of the cold start. After the run: mean of the "
        "side's workers, which share pages with each other, at rest: after a pause, in which ours "
        "give back what they do not use. Peak: the most RSS that they had, at work. Ratio: of RSS "
        "after the run.",
        ("side", "RSS, first answer", "PSS", "RSS, after the run", "PSS", "peak", "ratio to eager"),
        tuple(
            (
                SIDES[name].label,
                f"{side.cold_start.memory.rss:.0f}",
                pss(side.cold_start.memory.pss),
                f"{side.memory_after_run.rss:.0f}",
                pss(side.memory_after_run.pss),
                pss(side.memory_after_run.peak),
                f"{side.memory_after_run.rss / eager:.2f}",
            )
            for name, side in results.sides.items()
        ),
    )


def probes(results: BenchResults) -> Table:
    """How each side came to its setup."""

    def rows() -> Iterator[tuple[str, ...]]:
        for name, side in results.sides.items():
            for probe in side.probes:
                yield (
                    SIDES[name].label,
                    str(probe.setup),
                    f"{probe.throughput:.3f}",
                    f"{probe.median_latency:.2f}",
                    "chosen" if probe.setup == side.setup else "",
                )

    return Table(
        "How workers x threads were chosen",
        f"{results.plan.probe_requests} requests or more each, as many at once as workers; the "
        "highest throughput was taken.",
        ("side", "workers x threads", "images/s", "median latency, s", ""),
        tuple(rows()),
    )
