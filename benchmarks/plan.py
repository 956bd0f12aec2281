"""Why: what is measured, and how often, stands in one place, so that a test can ask for less."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

EAGER, TRACING, SCRIPTING = "eager", "tracing", "scripting"
OURS = (TRACING, SCRIPTING)
SIDES = (EAGER, *OURS)


@dataclass(frozen=True)
class BenchPlan:
    """One run."""

    zoo_name: str = "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x.yaml"
    overrides: tuple[str, ...] = ()
    """``KEY VALUE`` pairs for the config."""
    picture_size: tuple[int, int] = (1080, 1439)
    """(height, width) of the JPEG that is sent."""
    input_size: tuple[int, int] = (800, 1066)
    """(height, width) that the model gets for it; checked."""
    detections: int = 100
    """Instances in every answer; checked."""
    seed: int = 0
    export_size: tuple[int, int] = (240, 320)
    """Short and longest edge at which the programs are exported and proven; see archives.py."""
    piece_repeats: int = 7
    """In-process timings of what surrounds the model's forward."""
    forward_repeats: int = 3
    cold_starts: int = 3
    warm_ups: int = 2
    """Requests to each worker before anything is measured."""
    probe_requests: int = 4
    """Requests with which each workers x threads candidate is tried."""
    rounds: int = 5
    total_seconds: float = 840.0
    """For the whole run: the rounds take what the steps before them have left of it."""
    least_requests: int = 4
    """Requests of a side in a round, however little time is left."""


@dataclass(frozen=True)
class Setup:
    """How one side is served."""

    workers: int
    threads: int
    """OMP_NUM_THREADS of each worker."""

    def __str__(self) -> str:
        return f"{self.workers} x {self.threads}"


def candidates(cores: int) -> tuple[Setup, ...]:
    """Ways to spread cores over workers: 1 worker with all of them, 2 with half each, 4 ...

    Four workers of each side are the most, for the sake of memory.
    """
    return tuple(Setup(workers, cores // workers) for workers in (1, 2, 4) if workers <= cores)


def requests_per_round(
    plan: BenchPlan, seconds_left: float, throughputs: Sequence[float], workers: int
) -> int:
    """How many requests each side gets in a round, the same for all.

    Args:
        plan: of the run.
        seconds_left: for all rounds together.
        throughputs: of each side, in images per second.
        workers: the most that a side has. The result is a multiple of it, so that none is idle
            while the last requests are answered.
    """
    seconds_for_one_each = sum(1 / throughput for throughput in throughputs)
    affordable = int(seconds_left / (plan.rounds * seconds_for_one_each))
    return max(max(affordable, plan.least_requests) // workers, 1) * workers
