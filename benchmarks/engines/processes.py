"""What an engine's processes take: those that have the model, and all the others."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

_RUNTIME = "onnxruntime"
_MIB = 1024 * 1024


@dataclass(frozen=True)
class Taken:
    """Memory of an engine, in MiB, each page divided by the processes that share it (PSS)."""

    worker: float
    """Mean of those that have the model."""
    others: float
    """Sum of the rest."""


class Processes:
    """The tree of processes below the one that was started."""

    def __init__(self, root: int) -> None:
        self._root = psutil.Process(root)

    def workers(self) -> list[int]:
        """Ids of those that have the model: that have loaded its runtime."""
        return [each.pid for each in self._all() if _has_runtime(each)]

    def cpu_seconds(self) -> float:
        """Of all that are there now."""
        total = 0.0
        for each in self._all():
            with suppress(psutil.NoSuchProcess):
                times = each.cpu_times()
                total += times.user + times.system
        return total

    def taken(self) -> Taken:
        """Memory now."""
        workers = self.workers()
        return Taken(
            worker=_pss(workers) / len(workers),
            others=_pss(each.pid for each in self._all() if each.pid not in workers),
        )

    def _all(self) -> list[psutil.Process]:
        return [self._root, *self._root.children(recursive=True)]


def _has_runtime(process: psutil.Process) -> bool:
    try:
        return _RUNTIME in Path(f"/proc/{process.pid}/maps").read_text(encoding="utf-8")
    except OSError:  # it has just ended
        return False


def _pss(pids: Iterable[int]) -> float:
    total = 0.0
    for pid in pids:
        with suppress(psutil.NoSuchProcess):
            total += psutil.Process(pid).memory_full_info().pss / _MIB
    return total
