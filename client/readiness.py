"""Waits until the workers of a model are READY.

It distinguishes a model that is still loading from one whose workers die and restart for ever.
TorchServe shows both as UNLOADING. Process ids make the difference: each restart brings a new one.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Callable

from d2serve.client.errors import ModelNotFound, ServerUnavailable, WorkersNotReady
from d2serve.client.model_descriptions import ModelDescription

_POLL_SECONDS = 0.2
MAX_STARTS = 3
"""A worker seen under this many process ids without ever being READY is taken for broken."""


def wait_ready(
    describe: Callable[[], list[ModelDescription]], name: str, timeout: float
) -> list[ModelDescription]:
    """Wait until every worker is READY of what ``describe`` gives, versions of the model ``name``.

    Raises WorkersNotReady after ``timeout`` seconds, or as soon as workers keep dying.
    """
    watch = ReadinessWatch(name)
    deadline = time.monotonic() + timeout
    while True:
        described: list[ModelDescription] = []
        try:
            described = describe()
        except (ModelNotFound, ServerUnavailable):
            if time.monotonic() >= deadline:
                raise
        if described and all(model.is_ready for model in described):
            return described
        watch.see(
            {f"{m.version}/{w.id}": (w.pid, w.is_ready) for m in described for w in m.workers}
        )
        if time.monotonic() >= deadline:
            raise watch.timed_out(timeout)
        time.sleep(_POLL_SECONDS)


class ReadinessWatch:
    """Follows the workers of one model from poll to poll."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._pids: dict[str, set[int]] = {}
        self._ready = 0
        self._total = 0

    def see(self, workers: Mapping[str, tuple[int, bool]]) -> None:
        """Take in one poll: process id and readiness by worker. Raises WorkersNotReady when a
        worker has been restarted too often."""
        self._total = len(workers)
        self._ready = sum(ready for _, ready in workers.values())
        for worker, (pid, ready) in workers.items():
            pids = self._pids.setdefault(worker, set())
            if ready:
                pids.clear()
            elif pid > 0:
                pids.add(pid)
            if len(pids) >= MAX_STARTS:
                raise WorkersNotReady(
                    f"The workers of {self._model} keep dying: worker {worker} was started "
                    f"{len(pids)} times and was never READY. {_WHERE_TO_LOOK}"
                )

    def timed_out(self, seconds: float) -> WorkersNotReady:
        """The error for a model that was not READY in time."""
        if not self._total:
            state = "it has no workers; register it with initial_workers=1 or scale it up"
        else:
            state = f"{self._ready} of {self._total} workers are READY"
        return WorkersNotReady(
            f"{self._model} was not READY after {seconds:g} s: {state}. {_WHERE_TO_LOOK}"
        )


_WHERE_TO_LOOK = (
    "The reason is in logs/model_log.log of the directory TorchServe was started in "
    "(often a package that the handler imports and the server's Python lacks)."
)
