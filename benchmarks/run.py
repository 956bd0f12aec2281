"""Why: `make bench` is one command, and this is the order of its steps.

Everything is made from a seed in a temporary folder; only the results are kept.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Mapping
from datetime import datetime, timezone
from functools import partial
from pathlib import Path

from detectron2.config import get_cfg

from benchmarks.archives import eager_archive, our_archive
from benchmarks.cold_start import cold_starts
from benchmarks.errors import BenchError
from benchmarks.machine import this_machine
from benchmarks.measuring import best_of, compare_answers, measure_rounds, probe
from benchmarks.model import SavedModel, model_input, save_random_model
from benchmarks.photo import jpeg, photo
from benchmarks.pieces import Pieces, eager_pieces, our_pieces
from benchmarks.plan import EAGER, OURS, SIDES, BenchPlan, candidates, requests_per_round
from benchmarks.plot import save_plot
from benchmarks.report import as_markdown, show
from benchmarks.results import BenchResults, SideResult
from benchmarks.serving import keep_only, serving, worker_memory
from benchmarks.summary import summarise
from d2serve.cli.progress import console, error_console, shown_progress
from d2serve.client.errors import ClientError
from d2serve.export.errors import ExportError
from d2serve.export.pipeline import Progress
from d2serve.export.samples import Pixels
from d2serve.handlers.decoding import decode

_RESULTS = Path(__file__).parent / "results"


def main() -> int:
    """Run the benchmark, print its tables and write the results folder."""
    try:
        with shown_progress() as (begin, advance):
            results = run(BenchPlan(), Progress(begin, advance))
    except (BenchError, ClientError, ExportError) as error:
        error_console.print(f"{type(error).__name__}: {error}", style="red", markup=False)
        return 1
    save(results, _RESULTS)
    show(results, console)
    console.print(f"Written to {_RESULTS.parent.name}/{_RESULTS.name}/", highlight=False)
    return 0


def save(results: BenchResults, folder: Path) -> None:
    """Write results.json, results.md and results.png."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_text(results.to_json(), encoding="utf-8")
    (folder / "results.md").write_text(as_markdown(results), encoding="utf-8")
    save_plot(results, folder / "results.png")


def run(plan: BenchPlan, progress: Progress) -> BenchResults:
    """Make the model and the archives, and measure.

    Raises:
        BenchError, ExportError, ClientError: a step failed, or the sides answer differently.
    """
    date = datetime.now(timezone.utc).isoformat(timespec="seconds")
    start = time.monotonic()
    machine = this_machine()
    image = jpeg(photo(*plan.picture_size, plan.seed))
    with tempfile.TemporaryDirectory(prefix="d2serve-bench-") as folder:
        progress.begin("Making the model", 0)
        saved = _model(plan, decode(image), Path(folder))
        archives = _archives(plan, saved, decode(image), Path(folder), progress)

        progress.begin("Timing what surrounds the forward", len(SIDES))
        pieces = _pieces(plan, saved, archives, image, progress)
        progress.begin("Starting each side cold", len(SIDES) * plan.cold_starts)
        cold = cold_starts(archives, machine.cores, image, plan.cold_starts, progress.advance)

        setups = candidates(machine.cores)
        progress.begin("Starting the servers", 0)
        with serving(archives, setups) as servers:
            progress.begin("Comparing the answers", len(setups))
            workload, agreement = compare_answers(servers, image, plan, progress.advance)
            progress.begin("Choosing workers x threads", len(setups) * len(SIDES))
            probes = probe(servers, image, plan, progress.advance)
            best = best_of(probes)
            chosen = {side: found.setup for side, found in best.items()}
            keep_only(servers, chosen)
            requests = requests_per_round(
                plan,
                plan.total_seconds - (time.monotonic() - start),
                [found.throughput for found in best.values()],
                max(setup.workers for setup in chosen.values()),
            )
            progress.begin(
                f"Measuring, {requests} requests to each side in turn", plan.rounds * len(SIDES)
            )
            rounds = measure_rounds(servers, chosen, image, plan, requests, progress.advance)
            memory = {side: worker_memory(servers[chosen[side]], side) for side in SIDES}
            progress.begin("Stopping the servers", 0)
    sides = {
        side: SideResult(
            probes=probes[side],
            setup=chosen[side],
            rounds=rounds[side],
            summary=summarise(rounds[side], rounds[EAGER]),
            cold_start=cold[side],
            memory_after_run=memory[side],
            pieces=pieces[side],
            agreement=agreement.get(side),
        )
        for side in SIDES
    }
    seconds = time.monotonic() - start
    return BenchResults(date, seconds, machine, plan, len(image), workload, sides)


def _model(plan: BenchPlan, picture: Pixels, folder: Path) -> SavedModel:
    saved = save_random_model(folder, plan.zoo_name, plan.overrides, picture, plan.seed)
    cfg = get_cfg()
    cfg.merge_from_file(str(saved.config))
    size = tuple(model_input(cfg, picture).shape[1:])
    if size != plan.input_size:
        raise BenchError(
            f"The model gets the picture as {size}, expected {plan.input_size} (height, width): "
            "change picture_size or input_size in plan.py."
        )
    return saved


def _archives(
    plan: BenchPlan, saved: SavedModel, picture: Pixels, folder: Path, progress: Progress
) -> dict[str, Path]:
    store, scratch = folder / "store", folder / "archiver"
    store.mkdir()
    scratch.mkdir()
    made = {EAGER: eager_archive(saved, store, scratch)}
    for method in OURS:
        told = Progress(partial(_begin_with, progress, method), progress.advance)
        made[method] = our_archive(method, saved, picture, plan.export_size, store, told)
    return made


def _begin_with(progress: Progress, method: str, step: str, parts: int) -> None:
    progress.begin(f"Exporting by {method}: {step[0].lower()}{step[1:]}", parts)


def _pieces(
    plan: BenchPlan,
    saved: SavedModel,
    archives: Mapping[str, Path],
    image: bytes,
    progress: Progress,
) -> dict[str, Pieces]:
    repeats = (plan.piece_repeats, plan.forward_repeats)
    pieces = {EAGER: eager_pieces(saved, image, *repeats)}
    progress.advance()
    for method in OURS:
        pieces[method] = our_pieces(archives[method], image, *repeats)
        progress.advance()
    return pieces


if __name__ == "__main__":
    sys.exit(main())
