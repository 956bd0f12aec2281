"""One archive on every engine, side by side: ``make bench-engines``.

    python -m benchmarks.engines FOLDER [ENGINE...]

The folder is that of ``python -m tests.engines.reference``: the archive, its images and
TorchServe's replies. The engines are there at the same time and asked one at a time, in turns, so
that a ratio is of engines that met the same machine. With engines named, only these run and nothing
is written.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from datetime import datetime, timezone
from pathlib import Path

from benchmarks.engines.engines import ENGINES, Running
from benchmarks.engines.measuring import Measured, measure
from benchmarks.engines.plan import Plan
from benchmarks.engines.report import save_plot, table_of
from benchmarks.shared.errors import BenchError
from benchmarks.shared.machine import this_machine
from d2serve.cli.progress import console, error_console, shown_progress
from d2serve.export.request import Progress
from tests.engines.reference import Reference

_RESULT = Path(__file__).resolve().parents[1] / "results" / "engines.md"


def main() -> int:
    """Measure, print the table, and write it with its picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("engines", nargs="*", metavar="ENGINE")
    given = parser.parse_args()
    names, plan = given.engines or list(ENGINES), Plan()
    try:
        with shown_progress() as (begin, advance):
            found = run(names, Reference(given.folder.resolve()), plan, Progress(begin, advance))
    except (BenchError, subprocess.SubprocessError) as error:
        error_console.print(f"{type(error).__name__}: {error}", style="red", markup=False)
        return 1
    table = table_of(found, plan)
    console.print(table.for_terminal())
    for name, each in found.items():
        told = sorted({failure for killed in each.killed for failure in killed.failures})
        console.print(f"{ENGINES[name].label}, failures by kills: {told}", highlight=False)
    if given.engines:
        return 0
    _RESULT.write_text(f"{_head(plan)}\n{table.as_markdown()}", encoding="utf-8")
    save_plot(found, plan, _RESULT.with_suffix(".png"))
    return 0


def run(
    names: list[str], reference: Reference, plan: Plan, progress: Progress
) -> dict[str, Measured]:
    """Start the engines, measure them and stop them.

    Raises:
        BenchError: one does not start, or does not answer as TorchServe does.
    """
    with tempfile.TemporaryDirectory(prefix="d2serve-engines-") as folder, ExitStack() as stack:
        progress.begin("Starting", len(names))
        running = {}
        for name in names:
            engine = Running(name, reference.archive, Path(folder) / name, plan)
            running[name] = stack.enter_context(engine)
            engine.wait()
            progress.advance()
        return measure(running, reference, plan, progress)


def _head(plan: Plan) -> str:
    machine = this_machine()
    versions = ", ".join(f"{each.label} {each.version()}" for each in ENGINES.values())
    return (
        f"# Engines side by side\n\nOne archive, the example Mask R-CNN for ONNX Runtime "
        f"{machine.versions['onnxruntime']}, on {versions}. Each engine has {plan.workers} "
        f"processes with the model, of {plan.threads} thread; {plan.clients} clients send "
        f"{plan.images} JPEGs of about 640x480 by one call of the Open Inference Protocol over "
        "HTTP, and every engine's reply was TorchServe's, byte for byte. "
        f"{machine.cpu}, {machine.cores} cores, which the clients share; "
        f"{datetime.now(timezone.utc):%Y-%m-%d}. Made by `make bench-engines`.\n\n"
        f"![The figures as bars]({_RESULT.with_suffix('.png').name})\n"
    )


if __name__ == "__main__":
    sys.exit(main())
