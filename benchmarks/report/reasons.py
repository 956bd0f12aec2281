"""Reasons for missed targets, as far as the same run measured them: all their figures are of it.

What a run cannot know is not said. A sentence that names an older run's figures, or a cause that
somebody once found, would stay when it is no longer true.
"""

from __future__ import annotations

from benchmarks.pieces.forward import Forward
from benchmarks.serving.long_run import LongRun
from benchmarks.serving.results import BenchResults, SideResult

UNKNOWN = "this run measured nothing that explains it"
# Below this share of the first visits' spread, new sizes are what the rest of it comes from.
_AS_WIDE = 0.9


def of_throughput(results: BenchResults, side: SideResult, eager: SideResult, least: float) -> str:
    """The machine's peak bounds the throughput; otherwise what the request's time goes to."""
    forward = _with_all_cores(results, side)
    if forward is None or side.pieces is None:
        return UNKNOWN
    at_peak = results.model_operations / forward.peak.value
    most = 1 / at_peak / eager.summary.throughput.value
    told = (
        f"the machine's peak in {forward.precision} allows {most:.2f}x at most: there the forward "
        f"alone takes {at_peak:.1f} s with all cores, and eager detectron2 answers "
        f"{eager.summary.throughput.value:.3f} images a second. This forward takes "
        f"{forward.against_peak.value:.2f}x of that time"
    )
    if most < least:
        return told
    return f"{told}, and what surrounds it {side.pieces.outside.value:.0f} ms in one thread"


def of_cold_start(side: SideResult, eager: SideResult) -> str:
    """Which part of the start is long."""
    ours, theirs = side.cold_start, eager.cold_start
    return (
        f"READY after {ours.until_ready.value:.1f} s, warm-up included, and the first answer "
        f"{ours.first_answer.value:.1f} s later; eager detectron2 after "
        f"{theirs.until_ready.value:.1f} s and {theirs.first_answer.value:.1f} s"
    )


def of_growth(results: BenchResults, run: LongRun) -> str:
    """How much a request left behind."""
    requests = results.plan.many_requests - results.plan.few_requests
    grown = run.rss_many - run.rss_few
    return (
        f"{grown:.0f} MiB more after {requests} requests of new sizes, "
        f"{1024 * grown / requests:.0f} KiB each"
    )


def of_spread(run: LongRun) -> str:
    """Whether new sizes cost more, or sizes spread by themselves."""
    again = run.again_spread.value
    if again >= _AS_WIDE * run.spread.value:
        return f"not that sizes are new: the same images, seen again, spread by {again:.2f}"
    return f"the same images, seen again, spread by {again:.2f}; the rest is what a new size costs"


def _with_all_cores(results: BenchResults, side: SideResult) -> Forward | None:
    forwards = side.pieces.forwards if side.pieces is not None else ()
    return next((each for each in forwards if each.threads == results.machine.cores), None)
