"""Reports each request in the worker's log and in metrics.

An operator who has the id of a request finds out by it what became of it. The id is TorchServe's,
which a client gets in the reply; TorchServe's own access log lacks it. Each request is one line.
Nothing that a client sent is in it: a line that began with ``[METRICS]`` would be a metric to
TorchServe.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from d2serve.handlers.replies.reply import OK, Reply
from d2serve.handlers.timing import STEPS
from d2serve.handlers.torchserve.metrics import Metrics

_log = logging.getLogger(__name__)

_ANSWERED = "d2serve: %s answered: %dx%d, %s found, batch of %d, ms:" + "".join(
    f" {step} %.1f" for step in STEPS
)


class Reporter:
    """Reports replies."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        metrics.start()

    def report(self, replies: Sequence[Reply]) -> None:
        """Report a batch: each reply, and each call of the program, which several may share."""
        self._metrics.called(dict.fromkeys(each.call for each in replies if each.call is not None))
        for reply in replies:
            if reply.code == OK:
                self._answered(reply)
            else:
                self._refused(reply)

    def _answered(self, reply: Reply) -> None:
        found, call = reply.found, reply.call
        if found is None or call is None:  # metadata
            return
        self._metrics.answered(found, reply.seconds)
        _log.info(
            _ANSWERED,
            reply.request_id,
            found.width,
            found.height,
            "-" if found.objects is None else found.objects,
            call.images,
            *(1000 * reply.seconds[step] for step in STEPS),
        )

    def _refused(self, reply: Reply) -> None:
        """The reason is in the log where it is not the client's."""
        self._metrics.rejected(reply.code)
        head = "d2serve: %s %s: %d %s"
        if reply.status < 500:
            _log.info(head, reply.request_id, "refused", reply.status, reply.code)
        else:
            where = (reply.request_id, "failed", reply.status, reply.code)
            _log.error(head + ": %a", *where, reply.message)
