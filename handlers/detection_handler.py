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

from d2serve.handlers.decoding import decode
from d2serve.handlers.detections import Outputs
from d2serve.handlers.detector import Detector
from d2serve.handlers.encoding import CONTENT_TYPE, encode, encode_error
from d2serve.handlers.errors import EmptyRequest, ModelFailed, RequestError
from d2serve.handlers.limits import SETTING as LIMITS
from d2serve.handlers.options import DEFAULT_OPTIONS, RequestOptions
from d2serve.handlers.preprocessing import PreparedImage, preprocess
from d2serve.handlers.threads import thread_share

_log = logging.getLogger(__name__)

# How long a worker may go on with the share of cores that it had before others came or went.
_SECONDS_BETWEEN_THREAD_CHECKS = 5.0


class DetectionHandler:
    """Answers batches of images, as JSON, version 1 of the response format."""

    _detector: Detector
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
        prepared = [self._prepare(request) for request in data]
        images = [each[0] for each in prepared if isinstance(each, tuple)]
        answers = iter(self._detector.answer(images))
        replies = []
        for index, each in enumerate(prepared):
            if isinstance(each, tuple):
                replies.append(self._reply(index, next(answers), context, each[1]))
            else:
                replies.append(self._reply(index, each, context))
        return replies

    def _share_cores(self) -> None:
        self._detector.set_threads(thread_share(self._max_workers))
        self._next_thread_check = time.monotonic() + _SECONDS_BETWEEN_THREAD_CHECKS

    def _prepare(
        self, request: Mapping[str, Any]
    ) -> tuple[PreparedImage, RequestOptions] | RequestError:
        try:
            options = RequestOptions.parse(request)
            spec = self._detector.spec
            return preprocess(decode(_image_bytes(request), spec.limits), spec), options
        except RequestError as error:
            return error
        except Exception as error:
            _log.exception("d2serve: preparing an image failed")
            return ModelFailed(f"The server failed on this image ({type(error).__name__}).")

    def _reply(
        self,
        index: int,
        answer: Outputs | RequestError,
        context: Any,
        options: RequestOptions = DEFAULT_OPTIONS,
    ) -> bytes:
        context.set_response_content_type(index, CONTENT_TYPE)
        if isinstance(answer, Outputs):
            try:
                return encode(answer, self._detector.spec, self._model, self._version, options)
            except RequestError as error:
                answer = error
            except Exception as error:
                _log.exception("d2serve: encoding a reply failed")
                answer = ModelFailed(f"The server failed on this image ({type(error).__name__}).")
        # The reason phrase must be plain ASCII: anything else ends the worker.
        context.set_response_status(answer.status, answer.code, index)
        return encode_error(answer)


def _image_bytes(request: Mapping[str, Any]) -> bytes:
    value = request.get("data")
    if value is None:
        value = request.get("body")
    if value is None:
        raise EmptyRequest(
            f"Got the fields {sorted(request)}, expected an image file as the body, as the "
            "multipart field 'data' or as the gRPC input 'data'."
        )
    if not isinstance(value, (bytes, bytearray, memoryview)):
        raise EmptyRequest(
            f"Got a {type(value).__name__}, expected the bytes of an image file. "
            "Do not send it as JSON or text."
        )
    return bytes(value)
