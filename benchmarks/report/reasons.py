"""Reasons for missed targets, as far as the same run measured them: all their figures are of it.

What a run cannot know is not said. A sentence that names an older run's figures, or a cause that
somebody once found, would stay when it is no longer true.
"""

from __future__ import annotations

from benchmarks.pieces.forward import Forward
from benchmarks.pieces.mask_encoders import TRAINED
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


def of_forward(side: SideResult, forward: Forward) -> str:
    """What of a forward multiplies, and what does not."""
    layers = side.pieces.layers if side.pieces is not None else None
    if layers is None:
        return UNKNOWN
    whole = forward.milliseconds.value
    others = ", ".join(f"{name} {whole * share:.0f}" for name, share in layers.others.items())
    return (
        f"by OpenVINO's counters {whole * layers.multiplying:.0f} of its {whole:.0f} ms are in "
        f"layers that multiply, whose work takes {whole / forward.against_peak.value:.0f} ms at "
        f"the peak; of the others the largest are {others} ms"
    )


def of_masks(results: BenchResults, whose: str) -> str:
    """How ragged masks are, beside the trained model's."""
    mine, smooth = results.mask_encoders[whose], results.mask_encoders.get(TRAINED)
    if smooth is None or smooth is mine:
        return f"{mine.runs:.0f} runs of pixels a mask"
    return (
        f"{mine.runs:.0f} runs of pixels a mask, for which ours takes {mine.ours.value:.1f} ms "
        f"and detectron2 {mine.theirs.value:.0f}; for the {smooth.runs:.0f} of the {TRAINED} "
        f"{smooth.ours.value:.1f} and {smooth.theirs.value:.0f}"
    )


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
