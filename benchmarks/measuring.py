"""Why: sides measured one after the other would be measured on different machines, for a machine's
speed drifts. They take turns: a round is one load on each side, and ratios are formed within it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from benchmarks.agreement import Agreement, Workload, agreement_of, workload_of
from benchmarks.load import Load, closed_loop
from benchmarks.plan import EAGER, SIDES, BenchPlan, Setup
from benchmarks.results import Probe
from benchmarks.serving import Servers, warmed_up


def compare_answers(
    servers: Servers, image: bytes, plan: BenchPlan, advance: Callable[[], None]
) -> tuple[Workload, dict[str, Agreement]]:
    """Warm every worker up, and compare the sides' answers on each server.

    Returns:
        What is in the answers, and by side the largest differences from the eager one.

    Raises:
        BenchError: the sides do not answer the same.
    """
    largest: dict[str, Agreement] = {}
    for setup, server in servers.items():
        answers = warmed_up(server, setup, SIDES, image, plan.warm_ups)
        workload = workload_of(answers[EAGER], plan.detections)
        for side, now in agreement_of(answers).items():
            so_far = largest.setdefault(side, now)
            largest[side] = {
                "box_px": max(now["box_px"], so_far["box_px"]),
                "score": max(now["score"], so_far["score"]),
                "masks_differing": max(now["masks_differing"], so_far["masks_differing"]),
            }
        advance()
    return workload, largest


def probe(
    servers: Servers, image: bytes, plan: BenchPlan, advance: Callable[[], None]
) -> dict[str, tuple[Probe, ...]]:
    """Try every side briefly with every setup, the sides taking turns."""
    found: dict[str, list[Probe]] = {side: [] for side in SIDES}
    for setup, server in servers.items():
        for side in SIDES:
            requests = max(plan.probe_requests // setup.workers, 1) * setup.workers
            load = closed_loop(server.http, side, image, requests, setup.workers, plan.detections)
            middle = sorted(load.latencies)[len(load.latencies) // 2]
            found[side].append(Probe(setup, load.throughput, middle))
            advance()
    return {side: tuple(probes) for side, probes in found.items()}


def best_of(probes: Mapping[str, tuple[Probe, ...]]) -> dict[str, Probe]:
    """The setup of each side with the highest throughput."""
    return {side: max(tried, key=lambda p: p.throughput) for side, tried in probes.items()}


def measure_rounds(
    servers: Servers,
    chosen: Mapping[str, Setup],
    image: bytes,
    plan: BenchPlan,
    requests: int,
    advance: Callable[[], None],
) -> dict[str, tuple[Load, ...]]:
    """The rounds of every side, in turns.

    Args:
        servers: by setup.
        chosen: the setup of each side.
        image: an encoded picture.
        plan: of the run.
        requests: of each side in a round.
        advance: called after each load.
    """
    loads: dict[str, list[Load]] = {side: [] for side in chosen}
    for _ in range(plan.rounds):
        for side, setup in chosen.items():
            client = servers[setup].http
            loads[side].append(
                closed_loop(client, side, image, requests, setup.workers, plan.detections)
            )
            advance()
    return {side: tuple(each) for side, each in loads.items()}
