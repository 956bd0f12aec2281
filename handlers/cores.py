"""How many CPU cores this process may use, and how many threads an operator wants of it.

A library that counts the machine's cores is wrong in a container: the process may be pinned to
some of them, or get a quota of CPU time from its cgroup, of version 2 or 1. Threads beyond that
only wait for each other.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")
_OWN_CGROUPS = Path("/proc/self/cgroup")
# Where systems mount version 1's controller of CPU time.
_VERSION_1_MOUNTS = ("cpu", "cpu,cpuacct", "cpuacct,cpu")


def threads_wanted() -> int | None:
    """OMP_NUM_THREADS, where an operator has set it to a number above 0."""
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    return int(wanted) if wanted.isdecimal() and int(wanted) > 0 else None


def available_cores() -> int:
    """Cores this process may use: its affinity, bounded by the quotas of its cgroups."""
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else (os.cpu_count() or 1)
    return max(1, min((cores, *_quotas())))


def _quotas() -> Iterator[int]:
    """Whole cores that each quota allows, at least one."""
    for folder in _folders(_CGROUPS, _own_path("")):
        yield from _version_2(folder)
    for mount in _VERSION_1_MOUNTS:
        for folder in _folders(_CGROUPS / mount, _own_path("cpu")):
            yield from _version_1(folder)


def _own_path(controller: str) -> str:
    """Path of this process's cgroup of a controller; "" is version 2, which has one for all."""
    try:
        lines = _OWN_CGROUPS.read_text().splitlines()
    except OSError:
        return ""
    for line in lines:
        _, controllers, path = (*line.split(":", 2), "", "")[:3]
        if controller in controllers.split(","):
            return path.strip("/")
    return ""


def _folders(mount: Path, path: str) -> Iterator[Path]:
    """A cgroup's folder and those above it, whose quotas hold as well.

    In a container the path may be the host's, and then only the mount itself is there.
    """
    folder = mount / path
    while mount in folder.parents:
        yield folder
        folder = folder.parent
    yield mount


def _version_2(folder: Path) -> Iterator[int]:
    try:
        quota, period = (folder / "cpu.max").read_text().split()
        yield max(1, int(quota) // int(period))
    except (OSError, ValueError, ZeroDivisionError):  # not version 2, or "max": no quota
        pass


def _version_1(folder: Path) -> Iterator[int]:
    try:
        quota = int((folder / "cpu.cfs_quota_us").read_text())
        period = int((folder / "cpu.cfs_period_us").read_text())
        if quota > 0:  # -1 is no quota
            yield max(1, quota // period)
    except (OSError, ValueError, ZeroDivisionError):
        pass
