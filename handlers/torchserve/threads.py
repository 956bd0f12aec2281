"""A worker's share of the cores: those that the process may use, divided by the server's workers.

TorchServe sets no thread counts, and workers that each take every core slow each other. Workers
that are added or removed later change the share, so it is asked for again.
"""

from __future__ import annotations

import os
from pathlib import Path

from d2serve.handlers.cores import available_cores, threads_wanted

_WORKER_SCRIPT = b"model_service_worker.py"
_PROC = Path("/proc")
_ATTEMPTS = 5


def sibling_workers() -> int | None:
    """TorchServe workers of this server, this one included; None where that cannot be seen."""
    for _ in range(_ATTEMPTS):
        try:
            pids = _children_of(os.getppid())
        except OSError:
            continue
        return sum(_is_worker(pid) for pid in pids) or None
    return None


def _children_of(parent: int) -> set[str]:
    """Process ids of a process's children.

    Raises:
        OSError: there is no such list here; or one of its threads ended meanwhile, as Java's do all
            the time, and another has got its children.
    """
    tasks = list((_PROC / str(parent) / "task").iterdir())
    return {pid for task in tasks for pid in (task / "children").read_text().split()}


def _is_worker(pid: str) -> bool:
    try:
        return _WORKER_SCRIPT in (_PROC / pid / "cmdline").read_bytes()
    except OSError:  # it has just ended
        return False


def thread_share(max_workers: int) -> int:
    """Threads that this worker should use.

    OMP_NUM_THREADS, where an operator has set it, is the answer. Otherwise the cores are divided by
    the workers of the server, or by ``max_workers`` while fewer of them have started.

    Args:
        max_workers: ``maxWorkers`` of the model's YAML.
    """
    wanted = threads_wanted()
    if wanted is not None:
        return wanted
    return max(1, available_cores() // max(1, max_workers, sibling_workers() or 1))
