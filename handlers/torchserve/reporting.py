"""Reports each request in the worker's log and in metrics."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence

from d2serve.handlers.replies.reply import OK, Reply
from d2serve.handlers.torchserve import request_line
from d2serve.handlers.torchserve.metrics import Metrics

_log = logging.getLogger(__name__)


class Reporter:
    """Reports the replies of one model."""

    def __init__(self, metrics: Metrics, model: str, version: str) -> None:
        """
        Args:
            metrics: of the model.
            model, version: under which it is registered.
        """
        self._metrics = metrics
        self._served_as = model, version
        is_json = os.environ.get(request_line.LOG_FORMAT) == request_line.JSON
        self._line = request_line.as_json if is_json else request_line.as_text
        metrics.start()

    def report(self, replies: Sequence[Reply]) -> None:
        """Report a batch: each reply, and each call of the program, which several may share."""
        self._metrics.called(dict.fromkeys(each.call for each in replies if each.call is not None))
        for reply in replies:
            if reply.code != OK:
                self._metrics.rejected(reply.code)
            elif reply.found is not None:
                self._metrics.answered(reply.found, reply.seconds)
            fields = request_line.fields_of(reply, *self._served_as)
            if fields is not None:
                _log.log(request_line.level_of(fields), "%s", self._line(fields))
