"""``python -m benchmarks.gpu parity|speed``: the parts of `make gpu`, each in a process of its own.

Parity needs fp32 computed as fp32 in every library, which NVIDIA's take from the environment when
they are loaded; for the timings they are left as their users have them.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from enum import Enum
from pathlib import Path

import torch
import typer
from rich.console import Console
from rich.progress import Progress

from benchmarks.gpu.page import parity_table, speed_table
from benchmarks.gpu.parity import parity
from benchmarks.gpu.plan import GpuPlan
from benchmarks.gpu.speed import timed
from benchmarks.shared.machine import this_machine
from benchmarks.shared.table import Table
from environment.gpu import why_none
from examples.shapes.generate import generate_split
from examples.shapes.schema import IMAGES_FOLDER

RESULTS = Path(__file__).parents[1] / "results"
_EXACT = {"NVIDIA_TF32_OVERRIDE": "0"}


class Part(str, Enum):
    """Of a run."""

    PARITY, SPEED = "parity", "speed"


def main(part: Part) -> None:
    """Run a part on this machine's GPU and write its page, results/gpu_PART.md.

    Raises:
        SystemExit: there is no GPU, or answers lie outside the bounds.
    """
    lacking = why_none()
    if lacking is not None:
        raise SystemExit(lacking)
    if part is Part.PARITY and not _EXACT.items() <= os.environ.items():
        again = [sys.executable, "-W", "ignore", "-m", "benchmarks.gpu", part.value]
        raise SystemExit(
            subprocess.run(again, env={**os.environ, **_EXACT}, check=False).returncode
        )
    plan = GpuPlan()
    with tempfile.TemporaryDirectory(prefix="d2serve-gpu-") as folder:
        outside = _parity(plan, Path(folder)) if part is Part.PARITY else _speed(plan, Path(folder))
    if outside:
        raise SystemExit(f"{outside} answers lie outside their bounds: see the table.")


def _parity(plan: GpuPlan, folder: Path) -> int:
    annotations = generate_split(folder / "heldout", "heldout", plan.images)
    files = sorted((folder / "heldout" / IMAGES_FOLDER).glob("*.jpg"))
    store = folder / "store"
    store.mkdir()
    with Progress() as bar:
        task = bar.add_task("Comparing answers", total=len(plan.models) * len(plan.forms))
        rows = list(parity(plan, files, annotations, store, lambda: bar.advance(task)))
    _write("gpu_parity.md", parity_table(rows))
    return sum(row.outside for row in rows if not row.accuracy)


def _speed(plan: GpuPlan, folder: Path) -> int:
    with Progress() as bar:
        task = bar.add_task("Timing batches", total=len(plan.timed_batches))
        found = timed(plan, folder, lambda: bar.advance(task))
    _write("gpu_speed.md", speed_table(found))
    return 0


def _write(name: str, table: Table) -> None:
    machine = this_machine()
    gpu = torch.cuda.get_device_properties(0)
    versions = ", ".join(f"{name} {version}" for name, version in machine.versions.items())
    about = f"- {gpu.name}, {gpu.total_memory / 2**30:.0f} GiB, CUDA {torch.version.cuda}\n"
    (RESULTS / name).write_text(
        f"# On a GPU\n\n{about}- {machine.cpu}, {machine.cores} cores\n- {versions}\n\n"
        f"{table.as_markdown()}",
        encoding="utf-8",
    )
    Console().print(table.for_terminal())


if __name__ == "__main__":
    typer.run(main)
