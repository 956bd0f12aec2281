"""Makes rows, each in a process of its own: one that hangs or crashes still leaves its row."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from benchmarks.coverage.record import FAILED, Cell, Row, new_row, row_of
from benchmarks.coverage.trial import Job
from benchmarks.coverage.wording import without_paths

_MINUTES = 25
"""That a row may take; one thread of a busy machine takes two for the usual ones."""
_ROOT = Path(__file__).resolve().parent.parent.parent
# One thread, since eager detectron2's own answer depends on their number. Memory is kept between
# the steps of a row, as giving it back and taking it again costs a fifth of the time.
_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(1 << 40),
}


def made_apart(config: str, kinds: Sequence[str], images: list[Path] | None = None) -> Row:
    """Make a row in a process of its own.

    Args:
        config: a zoo configuration, or an example's file.
        kinds: of programs, in the order in which they are made.
        images: for a trained model; None is for the zoo's.

    Returns:
        The row; where the process ended early, the kinds it did not come to have failed.
    """
    with tempfile.TemporaryDirectory(prefix="d2serve-coverage-") as folder:
        result, job_file = Path(folder, "row.json"), Path(folder, "job.json")
        files = None if images is None else [str(image) for image in images]
        job_file.write_text(json.dumps(asdict(Job(config, str(result), kinds, files))))
        ended = _run(job_file)
        row = new_row(config)
        if result.exists():
            row = row_of(json.loads(result.read_text()))
    failed = {kind: Cell(FAILED, ended) for kind in kinds if kind not in row.cells}
    return replace(row, cells={**row.cells, **failed})


def _run(job_file: Path) -> str:
    """Run a job to its end; why it came to no more kinds than it did."""
    try:
        process = subprocess.run(
            [sys.executable, "-W", "ignore", "-m", "benchmarks.coverage.trial", str(job_file)],
            cwd=_ROOT,
            # Its temporary files are in the folder that goes when the row is done, however it ends.
            env={**os.environ, **_ENVIRONMENT, "TMPDIR": str(job_file.parent)},
            capture_output=True,
            text=True,
            timeout=_MINUTES * 60,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"the row took longer than {_MINUTES} minutes"
    last = (process.stderr.strip().splitlines() or ["nothing was said"])[-1]
    return without_paths(f"the process ended with {process.returncode}: {last}")
