"""Memory, open files and threads of a server's processes, one of which grows if it leaks.

Between two rounds, when nothing is on its way, a process holds no request: files and threads of
those moments can be compared. Memory cannot: of what was freed, some megabytes or tens of them are
kept for the next allocation. A worker gives them back every 20 s
(handlers/torchserve/memory.py), and what it holds in the milliseconds after that is what it keeps;
so RSS is looked at all the time.
"""

from __future__ import annotations

import re
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil

from benchmarks.soak.serving import Served
from d2serve.client.model_descriptions import ModelDescription

OWNER, LAUNCHER, JAVA = "d2serve serve", "launcher", "Java"
_MB = 1e6
_SECONDS_BETWEEN_LOOKS = 0.003


@dataclass(frozen=True)
class Holding:
    """What one process holds."""

    rss: float
    """MB."""
    least: float
    """MB: the least RSS since the sample before."""
    files: int
    threads: int


@dataclass(frozen=True)
class Sample:
    """Every process of the server at one moment."""

    seconds: float
    """Since the start of the traffic."""
    quiet: bool
    """Between two rounds."""
    holdings: Mapping[str, Holding]
    """By process; one that is gone is not there."""


@dataclass(frozen=True)
class Slope:
    """How fast memory grows, in MB per hour, with the bounds of its 95 % interval."""

    value: float
    low: float
    high: float


class Watched:
    """The processes of a server: its owner, launcher, Java and the workers of one model."""

    def __init__(self, served: Served, model: str) -> None:
        self._served, self._model = served, model
        described = self._described()
        self.workers = tuple(f"worker {i + 1}" for i in range(len(described.workers)))
        self._processes = {
            name: psutil.Process(worker.pid)
            for name, worker in zip(self.workers, described.workers)
        }
        owner = psutil.Process(served.pid)
        (launcher,) = (each for each in owner.children() if _java_of(each))
        self._processes.update({OWNER: owner, LAUNCHER: launcher, JAVA: _java_of(launcher)[0]})
        self._start = time.monotonic()
        self._least: dict[str, float] = {}
        self._lock = threading.Lock()

    @contextmanager
    def looking(self) -> Iterator[None]:
        """Look at RSS all the time, within this."""
        over = threading.Event()
        thread = threading.Thread(target=self._look_until, args=(over,))
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def _look_until(self, over: threading.Event) -> None:
        while not over.wait(_SECONDS_BETWEEN_LOOKS):
            for name, process in self._processes.items():
                try:
                    rss = process.memory_info().rss / _MB
                except psutil.NoSuchProcess:
                    continue
                with self._lock:
                    self._least[name] = min(rss, self._least.get(name, rss))

    def sample(self, quiet: bool) -> Sample:
        """Look at them."""
        seconds = time.monotonic() - self._start
        with self._lock:
            least, self._least = self._least, {}
        holdings = {}
        for name, process in self._processes.items():
            try:
                with process.oneshot():
                    rss = process.memory_info().rss / _MB
                    holdings[name] = Holding(
                        rss,
                        min(rss, least.get(name, rss)),
                        process.num_fds(),
                        process.num_threads(),
                    )
            except psutil.NoSuchProcess:
                continue
        return Sample(seconds, quiet, holdings)

    def live_heap(self) -> float | None:
        """MB that Java still holds after it has collected its garbage.

        Its RSS says little: it takes up to a quarter of the machine's memory before it looks for
        garbage. None where this Java comes without jcmd.
        """
        java = self._processes[JAVA]
        jcmd = Path(java.exe()).with_name("jcmd")
        if not jcmd.is_file():
            return None
        for command in ("GC.run", "GC.heap_info"):
            done = subprocess.run(
                [jcmd, str(java.pid), command], capture_output=True, text=True, check=True
            )
        used = re.search(r"used (\d+)K", done.stdout)
        return None if used is None else round(int(used.group(1)) * 1024 / _MB, 1)

    def replaced(self) -> list[str]:
        """Workers that are not the processes any more that they were at the start."""
        now = {worker.pid for worker in self._described().workers if worker.is_ready}
        return [name for name in self.workers if self._processes[name].pid not in now]

    def _described(self) -> ModelDescription:
        with self._served.management() as management:
            (described,) = management.describe(self._model)
        return described


def _java_of(process: psutil.Process) -> list[psutil.Process]:
    return [each for each in process.children() if "java" in each.name()]


def slope_of(samples: list[tuple[float, float]]) -> Slope:
    """Theil and Sen's: the median slope of all pairs, which no single jump decides.

    Its interval is Sen's: pairs as far from the median as their order would be by chance.

    Args:
        samples: (seconds, MB), three at least.
    """
    seconds, values = np.array(samples).T
    first, second = np.triu_indices(len(samples), 1)
    slopes = np.sort((values[second] - values[first]) / (seconds[second] - seconds[first])) * 3600
    n = len(samples)
    off = 1.96 * np.sqrt(n * (n - 1) * (2 * n + 5) / 18) / 2
    middle = (len(slopes) - 1) / 2
    low, high = (int(np.clip(middle + each, 0, len(slopes) - 1)) for each in (-off, off + 1))
    return Slope(float(np.median(slopes)), float(slopes[low]), float(slopes[high]))
