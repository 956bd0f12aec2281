"""Why: an operator who has the id of a request must find out what became of it.

The id is TorchServe's, which a client gets in the reply; TorchServe's own access log lacks it. Each
request is one line of the worker's log. Nothing that a client sent is in it: a line that began with
``[METRICS]`` would be a metric to TorchServe.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from d2serve.handlers.detector import Answered
from d2serve.handlers.errors import RequestError
from d2serve.handlers.outputs.records import Outputs
from d2serve.handlers.timing import STEPS, Seconds
from d2serve.handlers.torchserve.metrics import Metrics, found_in

_log = logging.getLogger(__name__)

_ANSWERED = "d2serve: %s answered: %dx%d, %s found, batch of %d, ms:" + "".join(
    f" {step} %.1f" for step in STEPS
)


class Reporter:
    """Tells of each request, in the log and in metrics."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        metrics.start()

    def called(self, answered: Sequence[Answered]) -> None:
        """The program was called for some images: once for those that share a call."""
        self._metrics.called(dict.fromkeys(each.call for each in answered if each.call is not None))

    def answered(
        self, request_id: str | None, outputs: Outputs, together: int, seconds: Seconds
    ) -> None:
        """A request was answered.

        Args:
            outputs: what of the image's outputs is in the reply.
            together: images in the program's call.
            seconds: of all steps.
        """
        self._metrics.answered(outputs, seconds)
        found = found_in(outputs)
        _log.info(
            _ANSWERED,
            request_id,
            outputs.width,
            outputs.height,
            "-" if found is None else found,
            together,
            *(1000 * seconds[step] for step in STEPS),
        )

    def refused(self, request_id: str | None, error: RequestError) -> None:
        """A request was answered with an error; the reason is told where it is not the client's."""
        self._metrics.rejected(error)
        if error.status < 500:
            _log.info("d2serve: %s refused: %d %s", request_id, error.status, error.code)
        else:
            _log.error(
                "d2serve: %s failed: %d %s: %a", request_id, error.status, error.code, str(error)
            )
