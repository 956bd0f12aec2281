"""What a worker does for itself between batches: it takes its share of cores and frees memory.

TorchServe reports neither other workers that come or go nor quiet times, so this is looked
after now and then, before a batch. What fails here is logged, and fails no request.
"""

from __future__ import annotations

import logging
import time
from typing import Callable

from d2serve.handlers.detector import Detector
from d2serve.handlers.torchserve.memory import WorkerMemory
from d2serve.handlers.torchserve.threads import thread_share

_log = logging.getLogger(__name__)

# How long a worker may go on with the share of cores that it had before others came or went.
_SECONDS_BETWEEN = 5.0


class Upkeep:
    """Does what is due; make one when the model is loaded."""

    def __init__(self, detector: Detector, max_workers: int) -> None:
        """
        Args:
            detector: whose threads are set.
            max_workers: ``maxWorkers`` of the model's YAML.
        """
        self._detector = detector
        self._max_workers = max_workers
        self._memory = WorkerMemory()
        self._attempt("setting the loaded model apart", self._memory.freeze_loaded)
        self._next = float("-inf")
        self.do_if_due()

    def do_if_due(self) -> None:
        """Do it if it was not done for so long."""
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + _SECONDS_BETWEEN
        self._attempt("taking its share of the cores", self._share_cores)
        self._attempt("giving memory back", self._memory.trim_if_due)

    def _share_cores(self) -> None:
        self._detector.set_threads(thread_share(self._max_workers))

    def _attempt(self, what: str, step: Callable[[], None]) -> None:
        try:
            step()
        # A runtime raises its own exceptions, and needs memory for a change of threads.
        except Exception:
            _log.exception("d2serve: %s failed; the worker goes on as it was", what)
