"""Finds out when nothing of what was asked is lost if a model's workers end: nothing waits in its
queue and no worker is busy.

TorchServe tells how many requests wait, but not whether workers are busy. So the model is asked for
its metadata. That question takes its turn in the queue: once it is answered, everything that came
before has left the queue, and the worker that answers is free. Our archives also say how many of
the other workers are busy. Of an archive that does not (an older one, or another handler) it is
known only where there is one worker; otherwise its queue has to be empty for ``GRACE_SECONDS``.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any, Callable, NamedTuple, Protocol

from d2serve.client.errors import (
    ModelNotFound,
    RequestRejected,
    ServerFailed,
    ServerOverloaded,
    ServerUnavailable,
)
from d2serve.client.model_descriptions import ModelDescription

STEADY_SECONDS = 0.4
"""How long a model has to be idle. A request is on its way from the queue to a worker, and its
answer from the worker to the client, for some milliseconds in which nothing shows it."""
GRACE_SECONDS = 5.0
"""The same where nothing tells whether workers are busy."""
_POLL_SECONDS = 0.2


class Load(NamedTuple):
    """What one or several versions have to do at one moment."""

    waiting: int
    """Requests in their queues."""
    busy: int
    """Workers that are answering, as far as is known."""
    is_known: bool = True
    """Whether it is known of every worker."""

    @staticmethod
    def of(loads: Iterable[Load]) -> Load:
        """That of all together."""
        each = list(loads)
        return Load(
            sum(load.waiting for load in each),
            sum(load.busy for load in each),
            all(load.is_known for load in each),
        )


_NOTHING = Load(0, 0)


class Manager(Protocol):
    """What is needed of a ManagementClient."""

    def describe(self, name: str, version: str | None = None) -> list[ModelDescription]: ...

    def metadata(
        self, name: str, version: str | None = None, *, timeout: float | None = None
    ) -> Any: ...


class Drain:
    """One wait for the end of what models have to do."""

    def __init__(
        self, manager: Manager, seconds: float, on_load: Callable[[Load], None] = lambda _: None
    ) -> None:
        """
        Args:
            manager: asks the server.
            seconds: that the wait may take, from now on.
            on_load: is called with what is still to be done, whenever that was asked.
        """
        self._manager = manager
        self._deadline = time.monotonic() + seconds
        self._on_load = on_load
        self.load = _NOTHING
        """What was still to be done when it was last asked."""
        self._silent: set[tuple[str, str]] = set()

    def wait(self, names: Callable[[], Iterable[tuple[str, str | None]]]) -> bool:
        """Wait until all are idle; False when the time is over.

        Args:
            names: gives the models and their versions, ``"all"`` for every version.
        """
        idle_since: float | None = None
        while True:
            began = time.monotonic()
            load = self.load = Load.of(self._look(*each) for each in names())
            self._on_load(load)
            if load.waiting or load.busy:
                idle_since = None
            elif idle_since is None:
                idle_since = time.monotonic()
            elif began - idle_since >= (STEADY_SECONDS if load.is_known else GRACE_SECONDS):
                return True
            if time.monotonic() + _POLL_SECONDS >= self._deadline:
                return False
            time.sleep(_POLL_SECONDS)

    def _look(self, name: str, version: str | None) -> Load:
        return Load.of(map(self._load_of, self._manager.describe(name, version)))

    def _load_of(self, model: ModelDescription) -> Load:
        """What one version has to do.

        Without workers it has nothing to do: nobody will answer what may be left in its queue.
        """
        ready = sum(worker.is_ready for worker in model.workers)
        if not model.workers:
            return _NOTHING
        if model.pending_requests:
            return Load(model.pending_requests, ready)
        if not ready:  # they load, or have died
            return _NOTHING
        key = model.name, model.version
        if key in self._silent:
            return Load(0, 0, is_known=False)
        try:
            left = max(self._deadline - time.monotonic(), _POLL_SECONDS)
            said = self._manager.metadata(*key, timeout=left)
        except ModelNotFound:  # removed since it was described
            return _NOTHING
        except (ServerUnavailable, ServerOverloaded):  # all are busy; or the last one has died
            return Load(0, ready)
        except (ServerFailed, RequestRejected):  # a handler that knows no such question
            said = None
        workers = said.get("workers") if isinstance(said, dict) else None
        if isinstance(workers, dict) and workers.get("others", 0) + 1 >= ready:
            return Load(0, int(workers.get("busy", 0)))
        if ready > 1:
            self._silent.add(key)  # one that fails at it fills the server's log
        return Load(0, 0, is_known=ready == 1)
