"""``make bench``: measures the usual sides, prints the tables and writes the results. ``make
bench-all``, which gives ``all``, measures every side."""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks.report.overview import save, show
from benchmarks.served.sides import SIDES
from benchmarks.serving.plan import BenchPlan
from benchmarks.serving.run import run
from benchmarks.shared.errors import BenchError
from d2serve.cli.progress import console, error_console, shown_progress
from d2serve.client.errors import ClientError
from d2serve.export.errors import ExportError
from d2serve.export.request import Progress
from d2serve.handlers.errors import LoadError

_RESULTS = Path(__file__).resolve().parents[1] / "results"


def main(which: str = "usual") -> int:
    """Run the benchmark, print its tables and write the results folder.

    Args:
        which: ``usual`` sides, or ``all``.
    """
    plan = BenchPlan(sides=tuple(SIDES), total_seconds=0.0) if which == "all" else BenchPlan()
    try:
        with shown_progress() as (begin, advance):
            results = run(plan, Progress(begin, advance))
    except (BenchError, ClientError, ExportError, LoadError) as error:
        error_console.print(f"{type(error).__name__}: {error}", style="red", markup=False)
        return 1
    save(results, _RESULTS)
    show(results, console)
    console.print(f"Written to {_RESULTS.parent.name}/{_RESULTS.name}/", highlight=False)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
