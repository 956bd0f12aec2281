"""From the loads of all rounds to the few figures that are compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.serving.load import Load
from d2serve.server.measuring.figures import Figure, median_of, median_ratio, pooled_percentile

PERCENTS = (50, 95, 99)


@dataclass(frozen=True)
class Summary:
    """One side's rounds in figures."""

    throughput: Figure
    """Images per second: median, lowest and highest of the rounds."""
    throughput_ratio: Figure
    """To the reference's of the same round: median, lowest and highest."""
    latency: dict[str, Figure]
    """Seconds by "p50", "p95", "p99": over all requests; lowest and highest of the rounds' own."""
    latency_ratio: dict[str, Figure]
    """To the reference's of the same round: median, lowest and highest."""


def summarise(rounds: Sequence[Load], reference: Sequence[Load]) -> Summary:
    """Summarise a side's rounds beside those of the side that it is compared with."""
    throughput = [load.throughput for load in rounds]
    latencies = [load.latencies for load in rounds]
    return Summary(
        throughput=median_of(throughput),
        throughput_ratio=median_ratio(throughput, [load.throughput for load in reference]),
        latency={f"p{p}": pooled_percentile(latencies, p) for p in PERCENTS},
        latency_ratio={
            f"p{p}": median_ratio(_each(rounds, p), _each(reference, p)) for p in PERCENTS
        },
    )


def _each(rounds: Sequence[Load], percent: float) -> list[float]:
    return [pooled_percentile([load.latencies], percent).value for load in rounds]
