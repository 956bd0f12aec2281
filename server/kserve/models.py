"""The models of a process: each loaded once, and asked through the queue."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import orjson

from d2serve.client.errors import ServerStartError
from d2serve.client.own_handling import own_handling
from d2serve.handlers.detector import Detector
from d2serve.handlers.errors import LoadError
from d2serve.handlers.replies.reply import Reply
from d2serve.handlers.requests.request import DESCRIBE, Request
from d2serve.handlers.service import Service
from d2serve.handlers.torchserve.metrics import Metrics
from d2serve.handlers.torchserve.reporting import Reporter
from d2serve.server.kserve.archives import Archive
from d2serve.server.kserve.library import BaseKServeModel
from d2serve.server.kserve.metrics import emitters
from d2serve.server.kserve.queue import MOST_TOGETHER, Queue


class Served(BaseKServeModel):  # type: ignore[misc]
    """One version of a model, as KServe's registry and our queue know it."""

    def __init__(self, archive: Archive, detector: Detector, queue: Queue) -> None:
        super().__init__(archive.name)
        self.version = archive.version
        self.versions = [archive.version]
        """All that are served of its name."""
        self.together = MOST_TOGETHER if detector.answers_together else 1
        self.limits = detector.spec.limits
        self._queue = queue
        self._service = Service(detector, archive.name, archive.version)
        served_as = archive.name, archive.version
        self._reporter = Reporter(Metrics(emitters(), *served_as), *served_as)
        self.ready = True

    async def ask(self, request: Request) -> Reply:
        """The reply to one request.

        Raises:
            Overloaded: too many wait.
        """
        if request.kind == DESCRIBE:
            return self._described(request)
        return await self._queue.ask(self, request)

    def answer(self, requests: Sequence[Request]) -> list[Reply]:
        """A reply to each request, which is also logged and measured."""
        replies = self._service.replies(requests)
        self._reporter.report(replies)
        return replies

    def _described(self, request: Request) -> Reply:
        reply = self._service.reply(request)
        told = {**orjson.loads(reply.body), "versions": self.versions}
        return replace(reply, body=orjson.dumps(told))


def open_models(archives: Sequence[Archive], threads: int, device: str) -> list[Served]:
    """Load archives, and run each once.

    Args:
        archives: of a name, the first one answers where a request names no version.
        threads: of the CPU, for all of them.
        device: ``"cpu"``, ``"cuda"`` or ``"cuda:N"``.

    Raises:
        ServerStartError: one cannot be served here.
    """
    # A GPU has work if one thread decodes while another waits for it; more make small batches.
    queue = Queue(threads if device == "cpu" else min(threads, 2))
    models = list[Served]()
    for each in archives:
        try:
            own = own_handling(each.path)
            detector = Detector.open(each.path, device, threads=threads, **own)
            detector.warm_up()
        except LoadError as error:
            raise ServerStartError(str(error)) from error
        models.append(Served(each, detector, queue))
    for model in models:
        model.versions = [each.version for each in models if each.name == model.name]
    return models
