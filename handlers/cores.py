"""How many CPU cores this process may use.

A container's quota counts as well as the process's affinity: more threads than that are throttled.
"""

from __future__ import annotations

import os
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")


def available_cores() -> int:
    """Cores this process may use: its affinity, bounded by a container's CPU quota; 1 at least."""
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else (os.cpu_count() or 1)
    quota = _quota_of_cgroup_2() or _quota_of_cgroup_1()
    return max(1, cores if quota is None else min(cores, int(quota)))


def _quota_of_cgroup_2() -> float | None:
    """Cores that a container may use; None where there is no quota, or no cgroup v2."""
    try:
        quota, period = (_CGROUP / "cpu.max").read_text().split()
        return int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):  # "max" is no quota
        return None


def _quota_of_cgroup_1() -> float | None:
    try:
        quota = int((_CGROUP / "cpu" / "cpu.cfs_quota_us").read_text())
        period = int((_CGROUP / "cpu" / "cpu.cfs_period_us").read_text())
    except (OSError, ValueError):
        return None
    return quota / period if quota > 0 and period > 0 else None  # -1 is no quota
