"""The memory of a process, which decides how many workers fit on a machine.

RSS counts every page that a worker maps; PSS divides shared pages (libraries above all) among the
processes that map them, so that the sum over workers is what they really take.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import psutil

_MIB = 1024 * 1024


@dataclass(frozen=True)
class Memory:
    """Of one worker, or the mean of several, in MiB."""

    rss: float
    pss: float | None
    """None where the system does not tell it (it is Linux's)."""


def memory_of(pids: Sequence[int]) -> Memory:
    """Mean memory of worker processes."""
    infos = [psutil.Process(pid).memory_full_info() for pid in pids]
    shared = [info.pss for info in infos if hasattr(info, "pss")]
    return Memory(
        rss=sum(info.rss for info in infos) / len(infos) / _MIB,
        pss=sum(shared) / len(shared) / _MIB if shared else None,
    )
