"""`d2serve batch` beside a plain loop, with Ray and without: ``make bench-batch``.

    D2SERVE_REFERENCE=FOLDER python -m benchmarks.batch [ROUNDS]

It runs in the environment that has Ray. In a round each side answers the same 2,000 images in a
process of its own, so that a ratio is of sides that met the same machine.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from itertools import product
from pathlib import Path

from benchmarks.batch.report import KINDS, NODES, SIDES, Turn, write
from benchmarks.shared.errors import BenchError
from d2serve.cli.progress import error_console, shown_progress
from d2serve.handlers.cores import available_cores
from tests.engines.reference import Reference

COUNT = 2000
_ROUNDS = 3


def main() -> int:
    """Measure, and write the tables and the picture, anew after each round."""
    rounds = int(sys.argv[1]) if sys.argv[1:] else _ROUNDS
    reference = Reference(Path(os.environ["D2SERVE_REFERENCE"]))
    os.environ["RAY_AUTH_MODE"] = "disabled"  # which writes into the home folder
    turns: dict[str, list[Turn]] = {side: [] for side in SIDES}
    nodes: dict[tuple[str, int], list[float]] = {each: [] for each in product(KINDS, NODES)}
    try:
        with (
            tempfile.TemporaryDirectory(prefix="d2serve-batch-") as made,
            shown_progress() as (begin, advance),
        ):
            photos = _photos(Path(made, "photos"), reference.images)
            begin(f"Answering {COUNT:,} images", rounds * (len(turns) + len(nodes)))
            for number in range(rounds):
                folder = Path(made, str(number))
                folder.mkdir()
                for side, own in turns.items():
                    own.append(_turn(side, folder, reference, photos))
                    advance()
                for (kind, count), taken in nodes.items():
                    words = [str(reference.archive), str(folder / f"{count}{kind}"), str(count)]
                    taken.append(float(_said("nodes", [*words, kind])))
                    advance()
                write(turns, nodes, COUNT)
    except BenchError as error:
        error_console.print(f"{type(error).__name__}: {error}", style="red", markup=False)
        return 1
    return 0


def _photos(folder: Path, originals: Sequence[Path]) -> Path:
    folder.mkdir()
    for number in range(COUNT):
        shutil.copy(originals[number % len(originals)], folder / f"{number:04d}.jpg")
    return folder


def _turn(side: str, folder: Path, reference: Reference, photos: Path) -> Turn:
    output = folder / side.replace(" ", "-")
    words = [str(reference.archive), str(photos), str(output)]
    load = os.getloadavg()[0]
    began = time.perf_counter()
    if side.startswith("plain"):
        _said("plain", [side.split()[1], *words, str(available_cores())])
        return Turn(COUNT / (time.perf_counter() - began), None, load)
    said = json.loads(_said("timed", words + (["local"] if side.endswith("Ray") else [])))
    whole = time.perf_counter() - began
    return Turn(COUNT / whole, said["steady_images"] / said["steady_seconds"], load)


def _said(module: str, words: Sequence[str]) -> str:
    command = [sys.executable, "-W", "ignore", "-m", f"benchmarks.batch.{module}", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BenchError(f"{module} failed: {done.stderr[-1000:]}")
    return done.stdout.strip().splitlines()[-1] if done.stdout.strip() else ""


if __name__ == "__main__":
    sys.exit(main())
