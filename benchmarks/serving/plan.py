"""What is measured and how often, in one place, so that a test can ask for less."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

from benchmarks.served.sides import EAGER, ONNXRUNTIME, OPENVINO, RUNTIMES, TRACING, USUAL


@dataclass(frozen=True)
class BenchPlan:
    """One run."""

    sides: tuple[str, ...] = USUAL
    """Eager first: the others are compared with it."""
    zoo_name: str = "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x.yaml"
    overrides: tuple[str | int, ...] = ()
    """``KEY VALUE`` pairs for the config."""
    picture_size: tuple[int, int] = (1080, 1439)
    """(height, width) of the JPEG that is sent."""
    input_size: tuple[int, int] = (800, 1066)
    """(height, width) that the model gets for it; checked."""
    detections: int = 100
    """Instances in every answer; checked."""
    seed: int = 0
    export_size: tuple[int, int] = (192, 256)
    """Short and longest edge at which the programs are exported and checked; see archives.py."""
    calibration_images: int = 8
    """Small pictures on which int8 is calibrated: its speed depends on the structure alone."""
    piece_repeats: int = 7
    """In-process timings of what surrounds the model's forward, and of the mask encoders."""
    forward_seconds: float = 4.0
    """For the timings of one forward, at least two of them."""
    cold_starts: int = 3
    """Of the sides whose cold start has a target; the others are started once."""
    cold_start_sides: tuple[str, ...] = (EAGER, TRACING, ONNXRUNTIME, OPENVINO)
    pair_sides: tuple[str, ...] = (OPENVINO,)
    """Of which two workers' memory together is compared with that of one eager worker."""
    probe_requests: int = 2
    """Requests with which each workers x threads candidate is tried."""
    part_sides: tuple[str, ...] = RUNTIMES
    """That are asked for less than all, too."""
    part_rounds: int = 3
    few_instances: int = 10
    """That are asked for then."""
    layer_repeats: int = 3
    """Of the 3x3 convolutions by themselves."""
    rounds: int = 4
    total_seconds: float = 1380.0
    """For the whole run: the rounds take what the steps before them have left of it."""
    least_requests: int = 2
    """Requests of a side in a round, however little time is left."""
    long_run_sides: tuple[str, ...] = RUNTIMES
    """Served with the small trained model: many requests, and images of many sizes."""
    sizes: int = 50
    """Different image sizes that a fresh worker gets."""
    sizes_between: int = 10
    """That come first before a size comes again."""
    fresh_workers: int = 3
    """That get them, of each side."""
    known_rounds: int = 1
    """In which the last of these workers gets its sizes once more, when none is new."""
    few_requests: int = 100
    many_requests: int = 1000
    """After which the long run reads a worker's memory."""
    pause_seconds: float = 4.0
    """Before it does so: a worker of d2serve gives back what it does not use when it has paused
    for 2 s."""

    def without(self, sides: Collection[str]) -> BenchPlan:
        """The same plan, but for some sides."""
        return replace(self, sides=tuple(each for each in self.sides if each not in sides))


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


def seconds_for_a_side(plan: BenchPlan, seconds_left: float) -> float:
    """The share of a side in a round: every side gets the same time, not the same requests."""
    return max(seconds_left, 0.0) / (plan.rounds * len(plan.sides))


def requests_in(plan: BenchPlan, seconds: float, throughput: float, workers: int) -> int:
    """How many requests a side gets in a round.

    Args:
        plan: of the run.
        seconds: for them.
        throughput: of the side, in images per second.
        workers: of the side. The result is a multiple of it, so that none is idle while the last
            requests are answered.
    """
    affordable = max(int(seconds * throughput), plan.least_requests)
    return max(affordable // workers, 1) * workers
