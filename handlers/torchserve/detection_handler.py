"""TorchServe's adapter: its handler contract in the service's words, and the service's in its.

TorchServe imports this file by its base name from the root of the archive and expects exactly one
class in it. An exception that leaves ``handle`` fails the whole batch, so none does.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from d2serve.handlers.detector import Detector
from d2serve.handlers.replies.reply import OK, Reply
from d2serve.handlers.requests.bodies.content_types import FORM, JSON, content_type
from d2serve.handlers.requests.request import DESCRIBE, GRPC, HTTP, INFER, Request
from d2serve.handlers.requests.tracing import TRACE_HEADER
from d2serve.handlers.service import Service
from d2serve.handlers.spec.convolution import AUTO
from d2serve.handlers.spec.convolution import SETTING as CONVOLUTION
from d2serve.handlers.spec.limits import SETTING as LIMITS
from d2serve.handlers.torchserve.busy import WorkerMark
from d2serve.handlers.torchserve.forms import json_of
from d2serve.handlers.torchserve.memory import WorkerMemory
from d2serve.handlers.torchserve.metrics import Metrics
from d2serve.handlers.torchserve.reporting import Reporter
from d2serve.handlers.torchserve.threads import thread_share
from d2serve.handlers.torchserve.upkeep import Upkeep

_log = logging.getLogger(__name__)

# TorchServe adds it to what comes to /invocations.
_NAME = "model_name"


class DetectionHandler:
    """Answers batches of requests."""

    _service: Service
    _mark: WorkerMark
    _reporter: Reporter
    _upkeep: Upkeep

    def initialize(self, context: Any) -> None:
        """Load the archive that TorchServe extracted, and warm it up.

        Raises:
            LoadError: TorchServe logs it and reports the worker as failed.
        """
        # Else TorchServe parses JSON itself, which loses names that are there twice.
        os.environ["TS_DECODE_INPUT_REQUEST"] = "false"
        properties, settings = context.system_properties, context.model_yaml_config or {}
        gpu, max_workers = properties.get("gpu_id"), int(settings.get("maxWorkers", 1))
        detector = Detector.open(
            Path(properties["model_dir"]),
            device="cpu" if gpu is None else f"cuda:{gpu}",
            threads=thread_share(max_workers),
            batching=str(settings.get("batching", "auto")),
            limits=settings.get(LIMITS),
            convolution=str(settings.get(CONVOLUTION, AUTO)),
        )
        memory = WorkerMemory(detector)
        detector.warm_up()
        served_as = context.model_name, str(context.manifest["model"]["modelVersion"])
        most = detector.spec.limits.max_reply_bytes
        self._mark = WorkerMark(Path(properties["model_dir"]))
        self._service = Service(
            detector, *served_as, max_reply_bytes=most, about_workers=self._mark.others
        )
        self._reporter = Reporter(Metrics(context.metrics, *served_as), *served_as)
        self._upkeep = Upkeep(detector, max_workers, memory)
        _log.info("d2serve: %s %s is ready, pid %d", *served_as, os.getpid())

    def handle(self, data: Sequence[Mapping[str, Any]], context: Any) -> list[bytes]:
        """One reply for each request, in order; a request that fails has its own status.

        Args:
            data: a mapping of field name to bytes for each request: an image and options.
            context: TorchServe's.
        """
        requests = [_request(fields, i, context) for i, fields in enumerate(data)]
        if all(each.kind == DESCRIBE for each in requests):  # who asks whether others are busy
            return self._answers(requests, context)
        with self._mark.busy():
            return self._answers(requests, context)

    def _answers(self, requests: Sequence[Request], context: Any) -> list[bytes]:
        with self._upkeep.answering():
            replies = self._service.replies(requests)
        for i, (request, reply) in enumerate(zip(requests, replies)):
            _set_head(request, reply, i, context)
        self._reporter.report(replies)
        return [reply.body for reply in replies]


def _request(fields: Any, index: int, context: Any) -> Request:
    """A request in the service's words, whatever it is.

    Over gRPC there are no headers but TorchServe's own. A call of the Open Inference Protocol then
    arrives as a ``body`` of JSON, of which the parameters, the requested outputs and the raw
    contents are gone; an input of TorchServe's own gRPC calls has no content type. What is a header
    over HTTP, the caller's trace, may then be an input.
    """
    fields = fields if isinstance(fields, Mapping) else {}
    headers: Mapping[str, Any] = context.get_all_request_header(index)
    texts = {name: value for name, value in headers.items() if isinstance(value, str)}
    is_grpc = all(name.startswith("ts_") for name in texts)
    part = headers.get("body")
    is_json = isinstance(part, Mapping) and part.get("content-type") == JSON
    kind = INFER if is_grpc and is_json else None
    if not fields and headers.get("describe") == "True":
        kind = DESCRIBE
    json = json_of(fields) if content_type(texts) == FORM else None
    fields = fields if json is None else {"body": json}
    image = "body" if fields.get("data") is None else "data"
    options = {name: value for name, value in fields.items() if name not in (image, _NAME)}
    if is_grpc and isinstance(options.get(TRACE_HEADER), bytes):
        texts[TRACE_HEADER] = options.pop(TRACE_HEADER).decode("ascii", "replace")
    return Request(
        body=fields.get(image),
        fields=options,
        headers=texts,
        kind=kind,
        transport=GRPC if is_grpc else HTTP,
        id=context.get_request_id(index),
    )


def _set_head(request: Request, reply: Reply, index: int, context: Any) -> None:
    context.set_response_content_type(index, reply.content_type)
    if reply.code != OK:
        # The reason phrase must be plain ASCII: anything else ends the worker.
        context.set_response_status(reply.status, reply.code, index)
    if request.transport == GRPC:
        # Without it a streaming call would end the worker. Over HTTP it would do harm.
        context.set_response_header(index, "ts_stream_next", "false")
    for name, value in reply.headers.items():
        context.set_response_header(index, name, value)
