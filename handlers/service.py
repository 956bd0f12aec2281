"""The service: requests in, replies out, for any server.

An adapter turns what its server hands over into ``Request`` records and passes on the ``Reply``
records that come back. Each request goes one way: it is classified, read, decoded and preprocessed;
the detector is asked once for all that got so far; what it found is encoded. A request that fails
on the way gets its own error and harms no other, and no exception leaves.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Callable, TypeVar

from d2serve.handlers.bundle import FIRST_VERSION, read_version
from d2serve.handlers.detector import Detector, ImageResult
from d2serve.handlers.errors import ModelFailed, ReplyTooLarge, RequestError
from d2serve.handlers.oip.metadata import describe
from d2serve.handlers.oip.replies import encode_infer, encode_infer_error
from d2serve.handlers.outputs.records import Outputs
from d2serve.handlers.reading import ModelRequest, read_request
from d2serve.handlers.replies.drawing import CONTENT_TYPES, draw
from d2serve.handlers.replies.encoding import contents_of, encode, encode_error
from d2serve.handlers.replies.reply import JSON, Body, Found, Reply
from d2serve.handlers.requests.deadline import check_in_time
from d2serve.handlers.requests.request import DESCRIBE, INFER, Call, Request, classify
from d2serve.handlers.spec.limits import DEFAULT_LIMITS, RequestLimits
from d2serve.handlers.timing import Stopwatch

_log = logging.getLogger(__name__)

T = TypeVar("T")


class Service:
    """A model that answers requests."""

    def __init__(
        self,
        detector: Detector,
        model: str,
        version: str = FIRST_VERSION,
        max_reply_bytes: int | None = None,
        about_workers: Callable[[], Mapping[str, int] | None] = lambda: None,
    ) -> None:
        """
        Args:
            detector: the loaded model.
            model, version: under which it is served.
            max_reply_bytes: the most that the server can send. None is no bound, unless whoever
                made or serves the archive has set one other than the default.
            about_workers: gives what the metadata say of the server's other workers, or None.
        """
        self.spec = detector.spec
        self._detector = detector
        self._served_as = model, version
        self._about_workers = about_workers
        self._max_reply_bytes = max_reply_bytes or _bound_that_was_set(detector.spec.limits)

    @staticmethod
    def open(
        path: str | os.PathLike[str],
        model: str | None = None,
        version: str | None = None,
        **settings: Any,
    ) -> Service:
        """Serve an archive in this process.

        Args:
            path: a .mar file, or the folder that one was extracted to.
            model, version: under which it is served; what is None is the archive's own.
            settings: as ``Detector.open`` takes them: device, batching, threads, limits,
                convolution.

        Raises:
            LoadError: the archive cannot be served here; the message says why.
        """
        detector = Detector.open(path, **settings)
        return Service(detector, model or detector.spec.name, version or read_version(Path(path)))

    def close(self) -> None:
        """Remove what was unpacked of an archive; the service must not be asked any more."""
        self._detector.close()

    def reply(self, request: Request) -> Reply:
        """The reply to one request."""
        (reply,) = self.replies([request])
        return reply

    def replies(self, requests: Sequence[Request]) -> list[Reply]:
        """A reply to each request, in order; the model is asked for all their images at once."""
        calls = [classify(request, self.spec.limits) for request in requests]
        read = [self._attempt(call, self._read, call) for call in calls]
        read = [self._attempt(call, _still_awaited, each) for call, each in zip(calls, read)]
        results = self._detect(read)
        finished = (self._finish(*each) for each in zip(calls, read, results))
        return [replace(reply, trace=call.trace) for call, reply in zip(calls, finished)]

    def _read(self, call: Call) -> ModelRequest | Reply:
        """What goes to the model, or the reply where nothing has to."""
        if call.refused is not None:
            raise call.refused
        if call.kind == DESCRIBE:
            described = describe(self.spec, *self._served_as, self._about_workers())
            return Reply(described, request_id=call.request_id)
        return read_request(call, self.spec)

    def _detect(self, read: Sequence[ModelRequest | Reply]) -> list[ImageResult | None]:
        """What the model makes of each image; None where there is a reply already."""
        good = [each for each in read if isinstance(each, ModelRequest)]
        try:
            found = self._detector.answer(
                [each.image for each in good], [each.selection for each in good]
            )
        except Exception as error:
            _log.exception("d2serve: asking the model failed")
            found = [ImageResult(_unexpected_error(error))] * len(good)
        results = iter(found)
        return [next(results) if isinstance(each, ModelRequest) else None for each in read]

    def _finish(self, call: Call, read: ModelRequest | Reply, result: ImageResult | None) -> Reply:
        if isinstance(read, Reply):
            return read
        assert result is not None  # it went to the model
        reply = self._attempt(call, self._encode, call, read, result)
        seconds = {**read.seconds, **result.seconds, **reply.seconds}
        return replace(reply, call=result.call, seconds=seconds)

    def _encode(self, call: Call, read: ModelRequest, result: ImageResult) -> Reply:
        if isinstance(result.outcome, RequestError):
            raise result.outcome
        watch, outputs = Stopwatch(), result.outcome
        own = partial(self._body, call, read, outputs)
        if call.kind == INFER:
            asked = (read.outputs, read.options, outputs, self.spec, self._served_as)
            body = encode_infer(call, *asked, own)
        else:
            body = own()
        self._check_size(body)
        return Reply(
            body=body.data,
            content_type=body.content_type,
            headers=body.headers,
            request_id=call.request_id,
            found=Found.of(outputs),
            seconds={"encode": watch.lap()},
        )

    def _body(self, call: Call, read: ModelRequest, outputs: Outputs) -> Body:
        """The picture or the JSON."""
        options, spec = read.options, self.spec
        if options.draw is not None and read.pixels is not None:
            picture = draw(read.pixels, outputs, spec, options.draw)
            return Body(CONTENT_TYPES[options.draw], picture, f"the picture as {options.draw}")
        answered = outputs, spec, *self._served_as, options, call.request_id
        data = encode(*answered, read.converted)
        return Body(JSON, data, contents_of(outputs))

    def _check_size(self, body: Body) -> None:
        size, most = len(body.data), self._max_reply_bytes
        if most is not None and size > most:
            raise ReplyTooLarge(
                f"The answer has {size:,} bytes for {body.contents}, expected at most {most:,}. "
                "Send a smaller image, or ask for less: a higher score_thresh, fewer "
                "max_detections, masks=none."
            )

    def _attempt(self, call: Call, step: Callable[..., T], *args: object) -> T | Reply:
        """What a step returns, or the reply to a request that fails in it."""
        try:
            return step(*args)
        except RequestError as error:
            error.drop_frames()
            return self._refusal(call, error)
        except Exception as error:
            _log.exception("d2serve: answering %s failed", call.request_id)
            return self._refusal(call, _unexpected_error(error))

    def _refusal(self, call: Call, error: RequestError) -> Reply:
        body = encode_error(error, call.request_id)
        if call.kind == INFER:
            body = encode_infer_error(call, error, body, self._served_as)
        return Reply(
            body=body,
            status=error.status,
            code=error.code,
            request_id=call.request_id,
            message=str(error),
        )


def _still_awaited(read: ModelRequest | Reply) -> ModelRequest | Reply:
    """The same, unless its time was over while it and its neighbours in the batch were read."""
    if isinstance(read, ModelRequest):
        check_in_time(read.deadline)
    return read


def _unexpected_error(error: Exception) -> ModelFailed:
    return ModelFailed(f"The server failed on this image ({type(error).__name__}).")


def _bound_that_was_set(limits: RequestLimits) -> int | None:
    is_default = limits.max_reply_bytes == DEFAULT_LIMITS.max_reply_bytes
    return None if is_default else limits.max_reply_bytes
