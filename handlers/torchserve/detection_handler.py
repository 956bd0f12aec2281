"""Why: the one place that knows TorchServe's handler contract; everything else is plain Python.

TorchServe imports this file by its base name from the root of the archive and expects exactly one
class in it. An exception that leaves ``handle`` fails the whole batch, so none does.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from d2serve.handlers.detector import Answered, Detector
from d2serve.handlers.errors import ModelFailed, RequestError
from d2serve.handlers.oip.calls import OipCall, oip_call, unpacked
from d2serve.handlers.oip.metadata import describe, is_describe
from d2serve.handlers.oip.replies import answer_of, error_of
from d2serve.handlers.outputs.records import Outputs
from d2serve.handlers.outputs.selection import select
from d2serve.handlers.replies.drawing import CONTENT_TYPES as DRAWN_TYPES
from d2serve.handlers.replies.drawing import draw
from d2serve.handlers.replies.encoding import CONTENT_TYPE, check_reply, encode, encode_error
from d2serve.handlers.requests.fields import is_grpc
from d2serve.handlers.requests.preparation import PreparedRequest, prepare
from d2serve.handlers.spec.limits import SETTING as LIMITS
from d2serve.handlers.timing import Stopwatch
from d2serve.handlers.torchserve.memory import FreeMemory
from d2serve.handlers.torchserve.metrics import Metrics
from d2serve.handlers.torchserve.reporting import Reporter
from d2serve.handlers.torchserve.threads import thread_share

_log = logging.getLogger(__name__)

# How long a worker may go on with the share of cores that it had before others came or went.
_SECONDS_BETWEEN_THREAD_CHECKS = 5.0


class DetectionHandler:
    """Answers batches of images, as JSON, version 1 of the response format."""

    _detector: Detector
    _reporter: Reporter
    _free_memory: FreeMemory
    _model: str
    _version: str
    _max_workers: int
    _next_thread_check: float

    def initialize(self, context: Any) -> None:
        """Load the archive that TorchServe extracted, and warm it up.

        Raises:
            LoadError: TorchServe logs it and reports the worker as failed.
        """
        properties = context.system_properties
        settings = context.model_yaml_config or {}
        gpu = properties.get("gpu_id")
        self._model = context.model_name
        self._version = str(context.manifest["model"]["modelVersion"])
        self._max_workers = int(settings.get("maxWorkers", 1))
        self._detector = Detector.open(
            Path(properties["model_dir"]),
            device="cpu" if gpu is None else f"cuda:{gpu}",
            batching=str(settings.get("batching", "auto")),
            threads=thread_share(self._max_workers),
            limits=settings.get(LIMITS),
        )
        self._detector.warm_up()
        self._reporter = Reporter(Metrics(context.metrics, self._model, self._version))
        self._free_memory = FreeMemory()
        self._free_memory.set_apart_what_stays()
        self._share_cores()
        _log.info("d2serve: %s %s is ready, pid %d", self._model, self._version, os.getpid())

    def handle(self, data: Sequence[Mapping[str, Any]], context: Any) -> list[bytes]:
        """One reply for each request, in order; a request that fails has its own status.

        Args:
            data: a mapping of field name to bytes for each request: an image and options.
            context: TorchServe's.
        """
        if time.monotonic() >= self._next_thread_check:
            self._share_cores()
        data = [
            unpacked(request, context.get_all_request_header(i)) for i, request in enumerate(data)
        ]
        prepared = [self._prepare(request, i, context) for i, request in enumerate(data)]
        answered = self._detector.answer(
            [each.image for each in prepared if isinstance(each, PreparedRequest)]
        )
        self._reporter.called(answered)
        answers = iter(answered)
        return [
            self._reply(
                i,
                request,
                each,
                next(answers) if isinstance(each, PreparedRequest) else None,
                context,
            )
            for i, (request, each) in enumerate(zip(data, prepared))
        ]

    def _share_cores(self) -> None:
        self._detector.set_threads(thread_share(self._max_workers))
        self._free_memory.give_back_if_due()
        self._next_thread_check = time.monotonic() + _SECONDS_BETWEEN_THREAD_CHECKS

    def _prepare(
        self, request: Mapping[str, Any], index: int, context: Any
    ) -> PreparedRequest | RequestError:
        try:
            headers = context.get_all_request_header(index)
            if is_grpc(headers):
                # Else a streaming call would end the worker. Over HTTP it would do harm.
                context.set_response_header(index, "ts_stream_next", "false")
            return prepare(request, headers, self._detector.spec)
        except RequestError as error:
            return error
        except Exception as error:
            _log.exception("d2serve: preparing %s failed", context.get_request_id(index))
            return _bug(error)

    def _reply(
        self,
        index: int,
        request: Mapping[str, Any],
        prepared: PreparedRequest | RequestError,
        answered: Answered | None,
        context: Any,
    ) -> bytes:
        request_id = context.get_request_id(index)
        headers = context.get_all_request_header(index)
        if is_describe(request, headers):
            context.set_response_content_type(index, CONTENT_TYPE)
            return describe(self._detector.spec, self._model, self._version)
        call = oip_call(request, headers, is_grpc(headers), request_id)
        try:
            content_type, reply = self._answer(prepared, answered, call, request_id)
            context.set_response_content_type(index, content_type)
            return reply
        except RequestError as error:
            refusal = error
        except Exception as error:
            _log.exception("d2serve: encoding the reply to %s failed", request_id)
            refusal = _bug(error)
        refusal.drop_frames()
        self._reporter.refused(request_id, refusal)
        context.set_response_content_type(index, CONTENT_TYPE)
        # The reason phrase must be plain ASCII: anything else ends the worker.
        context.set_response_status(refusal.status, refusal.code, index)
        reply = encode_error(refusal, request_id)
        served_as = (self._model, self._version)
        return reply if call is None else error_of(call, refusal, reply, served_as)

    def _answer(
        self,
        prepared: PreparedRequest | RequestError,
        answered: Answered | None,
        call: OipCall | None,
        request_id: str | None,
    ) -> tuple[str, bytes]:
        """The type and the bytes of a reply.

        Raises:
            RequestError: what was wrong with the request, or is with its answer.
        """
        if isinstance(prepared, RequestError):
            raise prepared
        assert answered is not None  # what was prepared went to the model
        if isinstance(answered.answer, RequestError):
            raise answered.answer
        assert answered.call is not None  # it has outputs
        watch = Stopwatch()
        spec, options = self._detector.spec, prepared.options
        outputs = select(answered.answer, options, spec.limits)
        encoded = partial(self._encoded, outputs, prepared, request_id)
        if call is None:
            content_type, reply = encoded()
        else:
            served_as = (self._model, self._version)
            wish = (prepared.outputs, options)
            reply = answer_of(call, *wish, outputs, spec, served_as, encoded)
            content_type = CONTENT_TYPE
        seconds = {**prepared.seconds, **answered.seconds, "encode": watch.lap()}
        self._reporter.answered(request_id, outputs, answered.call.images, seconds)
        return content_type, reply

    def _encoded(
        self, outputs: Outputs, prepared: PreparedRequest, request_id: str | None
    ) -> tuple[str, bytes]:
        spec, options = self._detector.spec, prepared.options
        if options.draw is None or prepared.pixels is None:
            reply = encode(outputs, spec, self._model, self._version, options, request_id)
            return CONTENT_TYPE, reply
        picture = draw(prepared.pixels, outputs, spec, options.draw)
        check_reply(picture, f"the picture as {options.draw}", spec.limits)
        return DRAWN_TYPES[options.draw], picture


def _bug(error: Exception) -> ModelFailed:
    return ModelFailed(f"The server failed on this image ({type(error).__name__}).")
