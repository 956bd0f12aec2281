"""What the C++ program costs beside the Python library, on the same archives: ``make bench-cpp``.

Each program is a process of its own that answers one image some times. In a round every program
has its turn, so that a ratio is of processes that met the same machine. What is deployed is counted
once: the files that ``cmake --install`` collects, and the wheels that pip installs.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.cpp.measuring import WARM_UP, Run, run
from benchmarks.cpp.report import save_plot, table_of
from benchmarks.cpp.sides import SIDES, Side
from benchmarks.shared.errors import BenchError
from benchmarks.shared.machine import this_machine
from d2serve.cli.progress import console, error_console, shown_progress
from d2serve.export.request import Progress
from tests.exports import Exports

_ROOT = Path(__file__).resolve().parents[2]
_BUILD = _ROOT / "examples" / "cpp" / "build"
_IMAGE = _ROOT / "examples" / "shapes" / "sample.jpg"
_RESULT = Path(__file__).resolve().parents[1] / "results" / "cpp.md"
_MODEL = "mask_rcnn_fpn"
_ROUNDS, _IMAGES, _THREADS = 7, 30, 1


def main() -> int:
    """Measure, print the table, and write it with its picture."""
    try:
        with (
            tempfile.TemporaryDirectory(prefix="d2serve-cpp-") as folder,
            shown_progress() as (begin, advance),
        ):
            installed = Path(folder) / "installed"
            runs = measure(Path(folder), installed, Progress(begin, advance))
            sizes = {side: side.megabytes(installed) for side in SIDES}
    except (BenchError, subprocess.CalledProcessError) as error:
        error_console.print(f"{type(error).__name__}: {error}", style="red", markup=False)
        return 1
    table = table_of(runs, sizes)
    console.print(table.for_terminal())
    machine = this_machine()
    versions = ", ".join(f"{name} {machine.versions[name]}" for name in ("openvino", "torch"))
    head = (
        f"# C++ beside Python\n\nThe example Mask R-CNN on its sample image (640x480), "
        f"{runs[SIDES[0]][0].instances} instances; {machine.cpu}, {machine.cores} cores, of which "
        f"each program uses {_THREADS}; {versions}. {_ROUNDS} rounds of {_IMAGES} images, of which "
        f"{WARM_UP} warm up.\n"
    )
    picture = f"![The figures as bars]({_RESULT.with_suffix('.png').name})\n"
    _RESULT.write_text(f"{head}\n{picture}\n{table.as_markdown()}", encoding="utf-8")
    save_plot(runs, sizes, _RESULT.with_suffix(".png"))
    return 0


def measure(folder: Path, installed: Path, progress: Progress) -> dict[Side, list[Run]]:
    """Install the C++ program, export the archives, and run every side in every round.

    Raises:
        BenchError: a program failed, or two found different things.
    """
    progress.begin("Installing", 0)
    install = ["cmake", "--install", str(_BUILD), "--prefix", str(installed)]
    subprocess.run(install, check=True, stdout=subprocess.DEVNULL)
    store = folder / "store"
    store.mkdir()
    exports = Exports(store, 1)
    runs: dict[Side, list[Run]] = {side: [] for side in SIDES}
    progress.begin("Running", _ROUNDS * len(SIDES))
    try:
        for _ in range(_ROUNDS):
            for side in SIDES:
                command = side.command(installed, exports(_MODEL, side.kind))
                runs[side].append(run(command, _IMAGE, _IMAGES, _THREADS))
                progress.advance()
    finally:
        exports.stop()
    found = {side.label: runs[side][0].instances for side in SIDES}
    if len(set(found.values())) > 1 or 0 in found.values():
        raise BenchError(f"The programs found different numbers of instances: {found}")
    return runs


if __name__ == "__main__":
    sys.exit(main())
