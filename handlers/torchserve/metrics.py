"""The metrics of a model, in TorchServe's terms; its own say nothing of a request's inside.

Each metric has to be listed in TorchServe's metrics file, which
server/torchserve/config/metrics_file.py writes. One that is not is left out here: TorchServe would
write each of its values into a log, and drop it. Durations are in seconds, and pixels in millions,
since TorchServe's histograms have fixed buckets, from 0.005 to 10.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from d2serve.handlers.errors import RequestError
from d2serve.handlers.replies.reply import Found
from d2serve.handlers.timing import STEPS, ProgramCall

_log = logging.getLogger(__name__)

HISTOGRAM, COUNTER = "histogram", "counter"
MODEL_LABELS = ("model_name", "model_version")
# Separators of the lines by which a worker reports a metric to TorchServe.
_UNFIT_FOR_LABELS = re.compile(r"[^A-Za-z0-9_.+-]")


@dataclass(frozen=True)
class Metric:
    """What a metric is called and means."""

    name: str
    unit: str
    kind: str = HISTOGRAM
    labels: tuple[str, ...] = MODEL_LABELS
    """TorchServe adds ``Hostname``."""


DURATIONS = {step: Metric(f"d2serve_{step}_seconds", "Seconds") for step in STEPS}
"""By step. That of the forward counts calls of the program, the others count answers."""
BATCH = Metric("d2serve_batch_images", "Count")
"""Images in a call of the program."""
DETECTIONS = Metric("d2serve_detections", "Count")
"""Instances in an answer, or proposals where the model has no instances."""
PIXELS = Metric("d2serve_image_megapixels", "Megapixels")
"""Of an image that was answered, as it was sent."""
REJECTED = Metric("d2serve_rejected_total", "Count", COUNTER, (*MODEL_LABELS, "code"))
"""Requests that were answered with an error, by its code."""

METRICS = (*DURATIONS.values(), BATCH, DETECTIONS, PIXELS, REJECTED)


class Metrics:
    """Reports the metrics of one model to TorchServe. What goes wrong here fails no request."""

    def __init__(self, cache: object, model: str, version: str) -> None:
        """
        Args:
            cache: TorchServe's ``context.metrics``, those of its file, or None.
            model, version: under which the model is registered.
        """
        self._labels = [_UNFIT_FOR_LABELS.sub("_", each) for each in (model, version)]
        self._emitters = _emitters_of(cache)
        self._has_failed = False

    def start(self) -> None:
        """Let every code be there from the beginning, or no alert would see its first one."""
        for kind in RequestError.__subclasses__():
            self._emit(REJECTED, 0, kind.code)

    def called(self, calls: Iterable[ProgramCall]) -> None:
        """Report calls of the program."""
        for call in calls:
            self._emit(DURATIONS["forward"], round(call.seconds, 6))
            self._emit(BATCH, call.images)

    def answered(self, found: Found, seconds: Mapping[str, float]) -> None:
        """Report an answer, and what its steps took."""
        for step, metric in DURATIONS.items():
            if step != "forward":
                self._emit(metric, round(seconds[step], 6))
        self._emit(PIXELS, round(found.height * found.width / 1e6, 6))
        if found.objects is not None:
            self._emit(DETECTIONS, found.objects)

    def rejected(self, code: str) -> None:
        """Report a request that was answered with this error."""
        self._emit(REJECTED, 1, code)

    def _emit(self, metric: Metric, value: float, *labels: str) -> None:
        emitter = self._emitters.get(metric.name)
        if emitter is None:
            return
        try:
            emitter.add_or_update(value, [*self._labels, *labels])
        except Exception:
            if not self._has_failed:  # once is enough to know
                self._has_failed = True
                _log.exception("d2serve: the metric %s failed; so may others", metric.name)


def _emitters_of(cache: object) -> dict[str, Any]:
    """Those of our metrics that the metrics file lists as they are, by name."""
    listed: dict[str, Any] = {}
    for of_one_kind in (getattr(cache, "cache", None) or {}).values():
        listed.update(of_one_kind)
    emitters = {}
    for metric in METRICS:
        found = listed.get(metric.name)
        if found is None:
            continue
        if list(found.dimension_names) == list(metric.labels):
            emitters[metric.name] = found
        else:
            _log.warning(
                "d2serve: the metrics file has %s with the dimensions %s, expected %s: left out",
                metric.name,
                found.dimension_names,
                list(metric.labels),
            )
    return emitters
