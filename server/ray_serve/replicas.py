"""A replica of a model: the process that has it loaded and answers with it."""

from __future__ import annotations

import asyncio
import logging
import os
from concurrent.futures import ThreadPoolExecutor

import ray
from ray import serve

from d2serve.client.own_handling import Handling
from d2serve.handlers.detector import Detector
from d2serve.handlers.errors import ModelFailed
from d2serve.handlers.replies.reply import Reply
from d2serve.handlers.requests.request import DESCRIBE, Request
from d2serve.handlers.service import Service
from d2serve.handlers.torchserve.memory import WorkerMemory
from d2serve.handlers.torchserve.metrics import Metrics
from d2serve.handlers.torchserve.reporting import Reporter
from d2serve.server.ray_serve.metrics import RayMetrics

_log = logging.getLogger(__name__)


class ModelReplica:
    """Answers requests, one after the other or several together, off the event loop."""

    def __init__(
        self, archive: str, name: str, version: str, handling: Handling, batch_size: int
    ) -> None:
        """Load the model and warm it up.

        Args:
            archive: its path on this machine.
            name, version: under which it is served.
            handling: how it is opened.
            batch_size: images that go through the program together, at most, where any do.

        Raises:
            LoadError: Ray Serve logs it, tries again and gives up.
        """
        _log_as_ray_serve_does()
        assigned = ray.get_runtime_context().get_assigned_resources()
        has_gpu, threads = assigned.get("GPU", 0) > 0, max(1, int(assigned.get("CPU", 1)))
        device = "cuda" if has_gpu else "cpu"
        self._detector = Detector.open(archive, device=device, threads=threads, **handling)
        self._detector.warm_up()
        self._service = Service(self._detector, name, version)
        self._reporter = Reporter(Metrics(RayMetrics(), name, version), name, version)
        self._memory = WorkerMemory()
        self._memory.freeze_loaded()
        # One: the program has all the threads already, and one image at a time all the memory.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="d2serve")
        self._has_failed = False
        self._batches = self._detector.answers_together and batch_size > 1
        self._answer_together.set_max_batch_size(batch_size)
        _log.info(
            "d2serve: %s %s is ready, pid %d, threads %d, batches of %d",
            *(name, version, os.getpid(), threads, batch_size if self._batches else 1),
        )

    async def answer(self, request: Request) -> Reply:
        """The reply to a request."""
        if request.kind == DESCRIBE:  # that takes no time, and need not wait for who does
            return self._service.reply(request)
        if self._batches:
            reply: Reply = await self._answer_together(request)
            return reply
        return (await self._answered([request]))[0]

    @serve.batch  # type: ignore[untyped-decorator]
    async def _answer_together(self, requests: list[Request]) -> list[Reply]:
        return await self._answered(requests)

    async def _answered(self, requests: list[Request]) -> list[Reply]:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, self._replies, requests)

    def _replies(self, requests: list[Request]) -> list[Reply]:
        self._memory.trim_if_due()
        replies = self._service.replies(requests)
        self._reporter.report(replies)
        if any(each.code == ModelFailed.code for each in replies):
            self._has_failed = True
        return replies

    async def check_health(self) -> None:
        """Ray Serve asks now and then, and replaces a replica for which this raises.

        One image on which the program fails says nothing. After it the program is run on one that
        it has answered before: it fails on that too where a GPU, say, is lost.
        """
        if self._has_failed:
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(self._thread, self._detector.warm_up)
            self._has_failed = False


def _log_as_ray_serve_does() -> None:
    """Write what d2serve logs to where Ray Serve writes its replica's log, and in its form."""
    ours = logging.getLogger("d2serve")
    ours.setLevel(logging.INFO)
    ours.parent = logging.getLogger("ray.serve")
