"""The metrics of a model in Ray's terms: the same as under TorchServe, with Ray's ``ray_`` before
their names.

Ray adds which deployment, replica and application it was. The port at which a machine's metrics can
be read is ``MetricsExportPort`` of ``ray.nodes()``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ray.serve import metrics

from d2serve.handlers.torchserve.metrics import COUNTER, METRICS, Metric

_COUNTS = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000]
_AMOUNTS = [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10]
"""Of seconds and of megapixels: TorchServe's buckets."""


class RayMetrics:
    """Stands where TorchServe's ``context.metrics`` stands; make one in each replica."""

    def __init__(self) -> None:
        self.cache = {"of Ray": {each.name: _Emitter(each) for each in METRICS}}


class _Emitter:
    """Takes the values of one metric."""

    def __init__(self, metric: Metric) -> None:
        self.dimension_names = metric.labels
        keys = tuple(metric.labels)
        self._counter = self._histogram = None
        if metric.kind == COUNTER:
            self._counter = metrics.Counter(metric.name, metric.unit, keys)
        else:
            bounds = _COUNTS if metric.unit == "Count" else _AMOUNTS
            self._histogram = metrics.Histogram(metric.name, metric.unit, bounds, keys)

    def add_or_update(self, value: float, labels: Sequence[str]) -> None:
        tags: dict[str, Any] = dict(zip(self.dimension_names, labels))
        if self._histogram is not None:
            self._histogram.observe(value, tags)
        elif self._counter is not None and value > 0:  # Ray refuses to count nothing
            self._counter.inc(value, tags)
