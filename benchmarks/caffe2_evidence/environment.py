"""Runs steps in the legacy environment, the last in which Caffe2 is to be had.

``make caffe2-evidence`` makes that environment; real_caffe2.py is what runs in it.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.shared.errors import BenchError

_SCRIPT = Path(__file__).with_name("real_caffe2.py")
_THREADS = "2"


def run_steps(
    python: Path,
    steps: Sequence[Mapping[str, object]],
    environment: Mapping[str, str] = os.environ,
) -> None:
    """Do steps one after the other, see real_caffe2.py.

    Raises:
        BenchError: one fails; the message ends with what Python said.
    """
    with tempfile.TemporaryDirectory() as folder:
        job = Path(folder) / "steps.json"
        job.write_text(json.dumps(steps), encoding="utf-8")
        done = subprocess.run(
            [str(python), "-W", "ignore", str(_SCRIPT), str(job)],
            env={**environment, "OMP_NUM_THREADS": _THREADS},
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode != 0:
        raise BenchError(
            f"{python} cannot do {[step['do'] for step in steps]} (status {done.returncode}): "
            f"{' / '.join(done.stderr.strip().splitlines()[-3:])}"
        )
