"""One run of the benchmark: its steps in their order.

Everything is made from a seed in a temporary folder. Only the results are kept.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path

from benchmarks.pieces.layers import layer_times
from benchmarks.pieces.mask_encoders import (
    RANDOM,
    TRAINED,
    MaskTiming,
    random_masks,
    time_encoders,
    trained_masks,
)
from benchmarks.pieces.model_work import operations_of
from benchmarks.pieces.request import Pieces, eager_pieces, our_pieces
from benchmarks.served.possible import left_out
from benchmarks.served.preparing import Prepared, exports_of, prepare, save_model
from benchmarks.served.sides import EAGER, SIDES
from benchmarks.serving.cold_start import Start, cold_start_of, start_cold
from benchmarks.serving.hosts import Hosts
from benchmarks.serving.load import Load
from benchmarks.serving.long_run import LongRun, long_runs
from benchmarks.serving.measuring import Trials, Tried, measure_rounds
from benchmarks.serving.pairs import Pair, pair_of
from benchmarks.serving.parts import Parts, ask_for_parts
from benchmarks.serving.plan import BenchPlan, Setup, candidates
from benchmarks.serving.results import BenchResults, SideResult
from benchmarks.serving.steps import Steps
from benchmarks.serving.summary import summarise
from benchmarks.shared.machine import this_machine
from benchmarks.shared.memory import Memory
from d2serve.export.request import Progress
from d2serve.handlers.requests.decoding import decode
from d2serve.kernels.library import ways
from d2serve.server.measuring.drawn_photo import jpeg, photo
from d2serve.server.measuring.figures import median_ratio


def run(plan: BenchPlan, progress: Progress) -> BenchResults:
    """Make the model and the archives, and measure.

    Raises:
        BenchError, ExportError, ClientError: a step failed, or the sides answer differently.
    """
    date = datetime.now(timezone.utc).isoformat(timespec="seconds")
    steps = Steps(progress)
    machine = this_machine()
    without = left_out(plan.sides)
    plan = plan.without(without)
    with tempfile.TemporaryDirectory(prefix="d2serve-bench-") as folder:
        steps.begin("Making the model", 0)
        image = jpeg(photo(*plan.picture_size, plan.seed))
        saved = save_model(plan, decode(image), Path(folder))
        work = operations_of(saved, image)
        steps.begin("Exporting", exports_of(plan))
        prepared = prepare(plan, saved, decode(image), Path(folder), steps.advance)
        pieces, encoders = _in_process(plan, prepared, image, work, machine.cores, steps)
        steps.begin("Timing the 3x3 convolutions", 0)
        layers = layer_times(plan.layer_repeats)
        runs = _long_runs(plan, prepared, machine.cores, steps)
        with Hosts(prepared.store, saved.config.parent) as hosts:
            setups = candidates(machine.cores)
            starts = _cold_starts(hosts, plan, setups[0], image, steps)
            pairs = _pairs(hosts, plan, machine.cores, image, starts[EAGER], steps)
            trials = Trials(hosts, plan, image, setups)
            tried = _try_all(trials, plan, starts, steps)
            parts = _parts(tried, plan, image, steps)
            steps.begin("Measuring the sides in turns", plan.rounds * len(plan.sides))
            left = plan.total_seconds - steps.seconds_so_far()
            rounds = measure_rounds(tried, image, plan, left, steps.advance)
            time.sleep(plan.pause_seconds)  # so that the last side is read as the others are
            memory = {side: each.served.memory() for side, each in tried.items()}
            steps.begin("Stopping the servers", 0)
    return BenchResults(
        date,
        steps.durations(),
        machine,
        plan,
        len(image),
        trials.workload,
        work,
        sides={
            side: _side(side, tried, rounds, starts, memory[side], pieces) for side in plan.sides
        },
        mask_encoders=encoders,
        long_runs=runs,
        left_out=without,
        winograd=ways(),
        layers=layers,
        parts=parts,
        pairs=pairs,
    )


def _in_process(
    plan: BenchPlan, prepared: Prepared, image: bytes, work: float, cores: int, steps: Steps
) -> tuple[dict[str, Pieces], dict[str, MaskTiming]]:
    ours = [side for side in plan.sides if SIDES[side].is_ours]
    steps.begin("Timing forwards and what surrounds them", 1 + len(ours))
    threads = (cores,)
    eager, raw = eager_pieces(prepared.saved, image, work, threads, plan)
    pieces = {EAGER: eager}
    steps.advance()
    for side in ours:
        archive = prepared.store / f"{side}.mar"
        pieces[side] = our_pieces(side, archive, image, work, threads, plan)
        steps.advance()
    steps.begin("Timing the mask encoders", 2)
    encoders = {}
    height, width = plan.picture_size
    for whose, roi in (
        (RANDOM, random_masks(raw, height, width)),
        (TRAINED, trained_masks(plan.detections, height, width)),
    ):
        encoders[whose] = time_encoders(roi, height, width, plan.piece_repeats)
        steps.advance()
    return pieces, encoders


def _long_runs(plan: BenchPlan, prepared: Prepared, cores: int, steps: Steps) -> dict[str, LongRun]:
    steps.begin(
        "Many requests and many image sizes",
        (plan.fresh_workers + 1) * len(plan.long_run_sides),
    )
    with Hosts(prepared.small_store, prepared.saved.config.parent) as hosts:
        return long_runs(hosts, plan, cores, steps.advance)


def _cold_starts(
    hosts: Hosts, plan: BenchPlan, setup: Setup, image: bytes, steps: Steps
) -> dict[str, list[Start]]:
    # The last start of each side is that of its trial, which goes on being served.
    sides = [side for side in plan.sides if side in plan.cold_start_sides]
    turns = plan.cold_starts - 1
    steps.begin("Starting sides cold", turns * len(sides))
    hosts.torchserve(setup.threads)  # not to be part of the first side's start
    starts: dict[str, list[Start]] = {side: [] for side in plan.sides}
    for _ in range(turns):
        for side in sides:
            served, start, _ = start_cold(hosts, side, setup, image)
            starts[side].append(start)
            served.stop()
            steps.advance()
    return starts


def _pairs(
    hosts: Hosts, plan: BenchPlan, cores: int, image: bytes, eager: Sequence[Start], steps: Steps
) -> dict[str, Pair]:
    """Only after an eager worker was started alone."""
    sides = [side for side in plan.pair_sides if side in plan.sides and eager]
    steps.begin("Looking at two workers' memory", len(sides))
    pairs = {}
    for side in sides:
        pair = pair_of(hosts, side, cores, image, eager[-1].memory.pss, plan.pause_seconds)
        if pair is not None:
            pairs[side] = pair
        steps.advance()
    return pairs


def _parts(
    tried: dict[str, Tried], plan: BenchPlan, image: bytes, steps: Steps
) -> dict[str, Parts]:
    served = {side: tried[side].served for side in plan.part_sides if side in plan.sides}
    steps.begin("Asking for less than all", 4 * plan.part_rounds * len(served))
    return ask_for_parts(served, image, plan, steps.advance)


def _try_all(
    trials: Trials, plan: BenchPlan, starts: dict[str, list[Start]], steps: Steps
) -> dict[str, Tried]:
    steps.begin("Comparing answers, choosing workers x threads", len(plan.sides))
    tried = {}
    for side in plan.sides:
        tried[side] = trials.try_side(side)
        starts[side].append(tried[side].start)
        steps.advance()
    return tried


def _side(
    side: str,
    tried: dict[str, Tried],
    rounds: dict[str, tuple[Load, ...]],
    starts: dict[str, list[Start]],
    memory: Memory,
    pieces: dict[str, Pieces],
) -> SideResult:
    mine = starts[side]
    eager = starts[EAGER][-len(mine) :]  # a side that is started once is so in the last turn
    return SideResult(
        probes=tried[side].probes,
        setup=tried[side].served.setup,
        rounds=rounds[side],
        summary=summarise(rounds[side], rounds[EAGER]),
        cold_start=cold_start_of(mine),
        cold_start_ratio=median_ratio([s.total for s in mine], [s.total for s in eager]),
        memory_after_run=memory,
        pieces=pieces.get(side),
        agreement=tried[side].agreement,
    )
