"""Requests for less than all: without masks, and for the best few instances.

A program that computes masks only for what is wanted answers them sooner. The kinds of request take
turns on the same workers, so that their ratios are of the same machine. A side has all its turns at
once: its workers give memory back when they have paused, and their next answer takes longer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from benchmarks.served.sides import SIDES
from benchmarks.serving.hosts import Served
from benchmarks.serving.load import Load, ask_all, closed_loop, instances_in
from benchmarks.serving.plan import BenchPlan
from benchmarks.shared.errors import BenchError
from d2serve.server.measuring.figures import Figure, median_of, median_ratio

ALL, NO_MASKS, FEW, ABOVE = "all", "masks=none", "max_detections", "score_thresh"


@dataclass(frozen=True)
class Parts:
    """One side, asked for all and for less."""

    throughput: dict[str, Figure]
    """Images per second, by what was asked for."""
    no_masks: Figure
    """Throughput without masks by that with all, of the same round."""
    few: Figure
    """Throughput of the best few by that of all."""
    above: Figure
    """Time of a request whose score_thresh leaves the few, by that of one for the few."""


def ask_for_parts(
    sides: Mapping[str, Served], image: bytes, plan: BenchPlan, advance: Callable[[], None]
) -> dict[str, Parts]:
    """Ask each side for all and for less, in turns.

    Args:
        sides: of TorchServe, by name.
        image: an encoded picture.
        plan: of the run.
        advance: called after each load, of which there are four in each round of each side.

    Raises:
        BenchError: an answer has not what was asked for.
    """
    asked = {name: _kinds(served, image, plan) for name, served in sides.items()}
    loads: dict[str, dict[str, list[Load]]] = {
        name: {kind: [] for kind in kinds} for name, kinds in asked.items()
    }
    for name, kinds in asked.items():
        ask_all(sides[name], image)  # the first after a pause is of no kind
        for _ in range(plan.part_rounds):
            for kind, (served, least) in kinds.items():
                requests = max(plan.least_requests, served.setup.workers)
                loads[name][kind].append(closed_loop(served, image, requests, least))
                advance()
    return {name: _parts(each) for name, each in loads.items()}


def _few_of(served: Served, image: bytes, few: int) -> None:
    """Hold an answer for the few to having no more than that: else the options did not arrive.

    Raises:
        BenchError: it has.
    """
    found = len(instances_in(served.asks[0](image)))
    if found > few:
        raise BenchError(
            f"{served.side} answered {found} instances where {few} were asked for: the figures "
            "would not be of less work. It is the server's to say why: model_log.log."
        )


def _kinds(served: Served, image: bytes, plan: BenchPlan) -> dict[str, tuple[Served, int]]:
    """What is asked for, each with how many instances it must have."""
    scores = sorted((each["score"] for each in instances_in(served.asks[0](image))), reverse=True)
    few = min(plan.few_instances, len(scores) - 1)
    bounds = SIDES[served.side].bounds
    least = int(plan.detections * (1.0 if bounds is None else bounds.share))
    between = (scores[few - 1] + scores[few]) / 2
    options: dict[str, tuple[dict[str, str], int]] = {
        ALL: ({}, least),
        NO_MASKS: ({"masks": "none"}, least),
        FEW: ({"max_detections": str(few)}, few),
        ABOVE: ({"score_thresh": repr(between)}, few),
    }
    kinds = {kind: (served.asked_for(each), most) for kind, (each, most) in options.items()}
    for kind in (FEW, ABOVE):
        _few_of(kinds[kind][0], image, few)
    return kinds


def _parts(loads: Mapping[str, list[Load]]) -> Parts:
    rates = {kind: [each.throughput for each in of] for kind, of in loads.items()}
    return Parts(
        {kind: median_of(each) for kind, each in rates.items()},
        no_masks=median_ratio(rates[NO_MASKS], rates[ALL]),
        few=median_ratio(rates[FEW], rates[ALL]),
        above=median_ratio(rates[FEW], rates[ABOVE]),
    )
