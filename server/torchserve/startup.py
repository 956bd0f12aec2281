"""Follows a TorchServe from its first log line to the moment all its models can answer.

It says why when that moment does not come.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Sequence
from typing import Callable

from d2serve.client.errors import (
    AuthorizationError,
    ModelNotFound,
    ServerStartError,
    ServerUnavailable,
)
from d2serve.client.management import ALL_VERSIONS, ManagementClient
from d2serve.server.archives.model_archives import ServedModel
from d2serve.server.torchserve.logs.log_diagnosis import ServerLog
from d2serve.server.torchserve.logs.log_reader import LogReader

DEATHS_OF_A_BROKEN_WORKER = 2
"""A worker may die once by bad luck; one that dies again at once will do so for ever."""

_POLL_SECONDS = 0.25


class Startup:
    """One start of a server: call wait() once."""

    def __init__(
        self,
        models: Sequence[ServedModel],
        management: ManagementClient,
        log: ServerLog,
        on_progress: Callable[[str], None],
    ) -> None:
        self._versions_of = Counter(model.name for model in models)
        self._management = management
        self._log = log
        self._on_progress = on_progress
        self._stage = ""

    def wait(self, timeout: float, is_running: Callable[[], bool], reader: LogReader) -> None:
        """Wait until all workers are READY.

        Args:
            timeout: seconds that this may take.
            is_running: returns whether TorchServe's process still runs.
            reader: of what TorchServe writes.

        Raises:
            ServerStartError: TorchServe ended, a worker keeps dying, or the time is over.
        """
        deadline = time.monotonic() + timeout
        while not self._is_done():
            if not is_running():
                reader.wait_for_the_end()
                raise self._end_error()
            if time.monotonic() >= deadline:
                raise self._timeout_error(timeout)
            time.sleep(_POLL_SECONDS)

    def _is_done(self) -> bool:
        """Whether TorchServe is up, gRPC included, and every worker of every model is READY."""
        refused = self._log.model_failure()
        if refused is not None:
            # TorchServe's own words for a full disk are only the name of a file.
            full = self._log.disk_failure()
            if full is not None:
                raise ServerStartError(f"TorchServe could not load a model: {full}.")
            raise self._error(f"TorchServe could not load a model: {refused}")
        dying = self._log.dying_worker(DEATHS_OF_A_BROKEN_WORKER)
        if dying is not None:
            raise self._worker_error(f"The worker {dying} keeps dying", dying)
        if not self._log.is_up:
            self._report("starting TorchServe")
            return False
        ready = [name for name in self._versions_of if self._is_ready(name)]
        if len(ready) < len(self._versions_of):
            waiting = ", ".join(name for name in self._versions_of if name not in ready)
            self._report(f"loading {waiting}")
            return False
        self._report("ready")
        return True

    def _end_error(self) -> ServerStartError:
        """The error for a TorchServe that stopped before it was up."""
        known = self._log.startup_failure()
        if known is not None:  # the log would only bury it
            return ServerStartError(f"TorchServe ended before it was up: {known}.")
        cause = self._log.model_failure() or "see the log"
        return self._error(f"TorchServe ended before it was up: {cause}")

    def _timeout_error(self, seconds: float) -> ServerStartError:
        """The error for a TorchServe that is not ready after so many seconds."""
        message = f"Not ready after {seconds:g} s, still {self._stage}"
        dying = self._log.dying_worker(1)
        if dying is not None:
            return self._worker_error(f"{message}; the worker {dying} died", dying)
        full = self._log.disk_failure()
        if full is not None:
            return ServerStartError(f"{message}: {full}.")
        return self._error(f"{message}. A slow machine or a large model needs a longer timeout.")

    def _is_ready(self, name: str) -> bool:
        try:
            described = self._management.describe(name, ALL_VERSIONS)
        except (ServerUnavailable, ModelNotFound, AuthorizationError):
            return False
        # Only a state that is served again has versions that were scaled to no worker at all.
        return len(described) == self._versions_of[name] and all(
            model.is_ready or model.max_workers == 0 for model in described
        )

    def _report(self, stage: str) -> None:
        if stage != self._stage:
            self._stage = stage
            self._on_progress(stage)

    def _worker_error(self, message: str, worker: str) -> ServerStartError:
        output = self._log.worker_failure(worker)
        full = self._log.disk_failure()
        if full is not None:
            return ServerStartError(f"{message}: {full}.")
        cause = output[-1] if output else "it wrote no exception"
        return ServerStartError(
            f"{message}: {cause}. If a package is missing, install it for {sys.executable}; "
            "otherwise look at the model's handler, which runs in the worker.",
            log_tail="\n".join(output) or self._log.tail(),
        )

    def _error(self, message: str) -> ServerStartError:
        return ServerStartError(message, log_tail=self._log.tail())
