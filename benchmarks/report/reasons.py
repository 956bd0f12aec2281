"""Reasons for missed targets, as far as the same run measured them: all their figures are of it.

What a run cannot know is not said. A sentence that names an older run's figures, or a cause that
somebody once found, would stay when it is no longer true.
"""

from __future__ import annotations

from benchmarks.pieces.forward import Forward
from benchmarks.served.sides import EAGER
from benchmarks.serving.long_run import LongRun, first_by_again
from benchmarks.serving.pairs import Pair
from benchmarks.serving.results import BenchResults, SideResult

UNKNOWN = "this run measured nothing that explains it"


def of_throughput(results: BenchResults, name: str, least: float) -> str:
    """What the target leaves for an image, and what this side takes of it."""
    side = results.sides[name]
    forward = _with_all_cores(results, side)
    if forward is None or side.pieces is None:
        return UNKNOWN
    allowed = 1000 / (least * results.sides[EAGER].summary.throughput.value)
    told = (
        f"it leaves the machine {allowed:.0f} ms for an image: the forward alone takes "
        f"{forward.milliseconds.value:.0f} ms with all cores, and what surrounds it "
        f"{side.pieces.outside.value:.0f} ms in one thread"
    )
    if forward.precision == "fp32" and not results.winograd:
        return f"{told}; the native code is not installed here, so every convolution was direct"
    return told


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


def of_new_sizes(run: LongRun) -> str:
    """How many of the first visits were slower than any second one."""
    slow = many = 0
    for each in run.fresh:
        slowest = max(time / pixels for time, pixels in zip(each.again, each.input_pixels))
        slow += sum(time / pixels > slowest for time, pixels in zip(each.first, each.input_pixels))
        many += len(each.first)
    noise = first_by_again(run.known).value
    return (
        f"{slow} of {many} first visits took longer per pixel than every second one; where no size "
        f"was new, the same was {noise:.2f}x"
    )


def of_pair(pair: Pair) -> str:
    """The two figures."""
    return f"{pair.both:.0f} MiB of both, and {pair.eager:.0f} MiB of an eager worker alone"


def _with_all_cores(results: BenchResults, side: SideResult) -> Forward | None:
    forwards = side.pieces.forwards if side.pieces is not None else ()
    return next((each for each in forwards if each.threads == results.machine.cores), None)
