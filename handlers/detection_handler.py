"""Why: the one place that knows TorchServe's handler contract; everything else is plain Python.

TorchServe imports this file by its base name from the root of the archive and expects exactly one
class in it. An exception that leaves ``handle`` fails the whole batch, so none does.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from d2serve.handlers.detections import Outputs
from d2serve.handlers.detector import Detector
from d2serve.handlers.drawing import CONTENT_TYPES as DRAWN_TYPES
from d2serve.handlers.drawing import draw
from d2serve.handlers.encoding import CONTENT_TYPE, check_reply, encode, encode_error
from d2serve.handlers.errors import ModelFailed, RequestError
from d2serve.handlers.limits import SETTING as LIMITS
from d2serve.handlers.memory import FreeMemory
from d2serve.handlers.oip import oip_call
from d2serve.handlers.preparing import PreparedRequest, prepare
from d2serve.handlers.request_fields import is_grpc
from d2serve.handlers.selection import select
from d2serve.handlers.threads import thread_share

_log = logging.getLogger(__name__)

# How long a worker may go on with the share of cores that it had before others came or went.
_SECONDS_BETWEEN_THREAD_CHECKS = 5.0


class DetectionHandler:
    """Answers batches of images, as JSON, version 1 of the response format."""

    _detector: Detector
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
        self._free_memory = FreeMemory()
        self._model = context.model_name
        self._version = str(context.manifest["model"]["modelVersion"])
        self._max_workers = int(settings.get("maxWorkers", 1))
        self._detector = Detector.load(
            Path(properties["model_dir"]),
            device="cpu" if gpu is None else f"cuda:{gpu}",
            batching=str(settings.get("batching", "auto")),
            threads=thread_share(self._max_workers),
            limits=settings.get(LIMITS),
        )
        self._detector.warm_up()
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
        prepared = [self._prepare(request, i, context) for i, request in enumerate(data)]
        images = [each.image for each in prepared if isinstance(each, PreparedRequest)]
        answers = iter(self._detector.answer(images))
        return [
            self._reply(i, request, next(answers), context, each)
            if isinstance(each, PreparedRequest)
            else self._reply(i, request, each, context)
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
            _log.exception("d2serve: preparing an image failed")
            return ModelFailed(f"The server failed on this image ({type(error).__name__}).")

    def _reply(
        self,
        index: int,
        request: Mapping[str, Any],
        answer: Outputs | RequestError,
        context: Any,
        prepared: PreparedRequest | None = None,
    ) -> bytes:
        headers = context.get_all_request_header(index)
        call = oip_call(request, headers, is_grpc(headers))
        if isinstance(answer, Outputs) and prepared is not None:
            try:
                content_type, reply = self._encoded(answer, prepared)
                if call is not None:
                    reply = call.wrapped(content_type, reply, self._model, self._version)
                    check_reply(reply, "the Open Inference Protocol", self._detector.spec.limits)
                    content_type = CONTENT_TYPE
                context.set_response_content_type(index, content_type)
                return reply
            except RequestError as error:
                answer = error
            except Exception as error:
                _log.exception("d2serve: encoding a reply failed")
                answer = ModelFailed(f"The server failed on this image ({type(error).__name__}).")
        assert isinstance(answer, RequestError)  # outputs are there for what was prepared only
        answer.drop_frames()
        context.set_response_content_type(index, CONTENT_TYPE)
        # The reason phrase must be plain ASCII: anything else ends the worker.
        context.set_response_status(answer.status, answer.code, index)
        reply = encode_error(answer)
        if call is not None and call.grpc:  # over HTTP the status tells
            reply = call.wrapped(CONTENT_TYPE, reply, self._model, self._version)
        return reply

    def _encoded(self, answer: Outputs, prepared: PreparedRequest) -> tuple[str, bytes]:
        spec, options = self._detector.spec, prepared.options
        answer = select(answer, options, spec.limits)
        if options.draw is None or prepared.pixels is None:
            return CONTENT_TYPE, encode(answer, spec, self._model, self._version, options)
        picture = draw(prepared.pixels, answer, spec, options.draw)
        check_reply(picture, f"the picture as {options.draw}", spec.limits)
        return DRAWN_TYPES[options.draw], picture
