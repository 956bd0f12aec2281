"""The memory of a process, which decides how many workers fit on a machine.

RSS counts every page that a worker maps; PSS divides shared pages (libraries above all) among the
processes that map them, so that the sum over workers is what they really take.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

_MIB = 1024 * 1024


@dataclass(frozen=True)
class Memory:
    """Of one worker, or the mean of several, in MiB."""

    rss: float
    pss: float | None
    """None where the system does not tell it (it is Linux's)."""
    peak: float | None = None
    """The most RSS that it ever had; None where the system does not tell it."""


def memory_of(pids: Sequence[int]) -> Memory:
    """Mean memory of worker processes."""
    infos = [psutil.Process(pid).memory_full_info() for pid in pids]
    shared = [info.pss for info in infos if hasattr(info, "pss")]
    return Memory(
        rss=sum(info.rss for info in infos) / len(infos) / _MIB,
        pss=sum(shared) / len(shared) / _MIB if shared else None,
        peak=_mean([each for each in map(_peak, pids) if each is not None]),
    )


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _peak(pid: int) -> float | None:
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    except OSError:
        return None
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    return int(found[1]) / 1024 if found else None
