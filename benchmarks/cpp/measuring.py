"""Runs one program on one image many times, and reads what it says of each step."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.shared.errors import BenchError

STEPS = ("decode", "preprocess", "forward", "postprocess", "encode")
WARM_UP = 3
_STEP = re.compile(r"(\w+) ([\d.]+) ms")


@dataclass(frozen=True)
class Run:
    """One process, from its start to its end."""

    first_answer: float
    """Seconds from the start of the process to the first line."""
    steps: dict[str, list[float]]
    """Milliseconds of each image after the first few, by step."""
    megabytes: float
    """Most memory that it had (VmHWM), as seen after each answer."""
    instances: int
    """That it found."""

    @property
    def latencies(self) -> list[float]:
        """Milliseconds from the file to the reply."""
        return [sum(each) for each in zip(*self.steps.values())]

    @property
    def outside(self) -> list[float]:
        """Milliseconds of all but the forward."""
        around = (times for step, times in self.steps.items() if step != "forward")
        return [sum(each) for each in zip(*around)]


def run(command: Sequence[str], image: Path, times: int, threads: int) -> Run:
    """Ask a program about an image so many times.

    Raises:
        BenchError: it failed, or said nothing of what its steps took.
    """
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    began = time.perf_counter()
    process = subprocess.Popen(
        [*command, *[str(image)] * times],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    first = process.stdout.readline()
    first_answer = time.perf_counter() - began
    answers, megabytes = [first], _most_memory(process.pid)
    for answer in process.stdout:
        answers.append(answer)
        megabytes = max(megabytes, _most_memory(process.pid))
    said = process.stderr.read()
    if process.wait() or len(answers) != times:
        raise BenchError(f"{command[0]} failed: {said.strip()[-500:]}")
    lines = [dict(_STEP.findall(line)) for line in said.splitlines() if "forward" in line]
    lines = lines[WARM_UP:]
    if len(lines) != times - WARM_UP:
        raise BenchError(f"{command[0]} told {len(lines)} times, expected {times - WARM_UP}")
    steps = {step: [float(line[step]) for line in lines] for step in STEPS}
    return Run(first_answer, steps, megabytes, len(json.loads(first)["instances"]))


def _most_memory(process: int) -> float:
    """VmHWM so far, in MiB; what a process used that was forked counts its parent's as well."""
    try:
        status = Path(f"/proc/{process}/status").read_text(encoding="utf-8")
    except OSError:
        return 0.0  # it has ended since
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    return int(found[1]) / 1024 if found else 0.0
