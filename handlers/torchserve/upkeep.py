"""What a worker does for itself beside answering: it takes its share of cores and frees memory.

TorchServe reports neither other workers that come or go nor quiet times, so this is looked
after now and then, before a batch, and in pauses. What fails here is logged, and fails no request.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Callable

from d2serve.handlers.detector import Detector
from d2serve.handlers.torchserve.memory import WorkerMemory
from d2serve.handlers.torchserve.pauses import Pauses
from d2serve.handlers.torchserve.threads import thread_share

_log = logging.getLogger(__name__)

# How long a worker may go on with the share of cores that it had before others came or went.
_SECONDS_BETWEEN = 5.0

# The next answer after giving memory back takes some percent longer, so it waits for a real pause.
_SECONDS_OF_A_PAUSE = 2.0


class Upkeep:
    """Does what is due; make one when the model is loaded."""

    def __init__(self, detector: Detector, max_workers: int, memory: WorkerMemory) -> None:
        """
        Args:
            detector: whose threads are set.
            max_workers: ``maxWorkers`` of the model's YAML.
            memory: its, made before it ran.
        """
        self._detector = detector
        self._max_workers = max_workers
        self._memory = memory
        self._pauses = Pauses(self._give_back, _SECONDS_OF_A_PAUSE)
        self._next = float("-inf")
        self.do_if_due()
        self._attempt("giving back what loading has left", memory.model_is_loaded)

    @contextmanager
    def answering(self) -> Iterator[None]:
        """While this lasts a batch is answered; what is due is done before."""
        with self._pauses.answering():
            self.do_if_due()
            yield

    def do_if_due(self) -> None:
        """Do it if it was not done for so long."""
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + _SECONDS_BETWEEN
        self._attempt("taking its share of the cores", self._share_cores)
        self._attempt("giving memory back", self._memory.give_back_if_due)

    def _give_back(self) -> None:
        self._attempt("giving memory back", self._memory.give_back)

    def _share_cores(self) -> None:
        self._detector.set_threads(thread_share(self._max_workers))

    def _attempt(self, what: str, step: Callable[[], None]) -> None:
        try:
            step()
        # A runtime raises its own exceptions, and needs memory for a change of threads.
        except Exception:
            _log.exception("d2serve: %s failed; the worker goes on as it was", what)
