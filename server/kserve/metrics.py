"""The metrics of our models, in the registry that KServe's server has for its own.

They have the names and meanings that they have under TorchServe: docs/observing.md.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cache
from types import SimpleNamespace

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Histogram, multiprocess
from prometheus_client.exposition import choose_encoder

from d2serve.handlers.torchserve.metrics import COUNTER, HISTOGRAM, METRICS, Metric
from d2serve.server.kserve.workers import METRICS_FOLDER

_MEANINGS = "see docs/observing.md of d2serve"


class _Emitter:
    """One metric as ``Metrics`` reports its values."""

    def __init__(self, metric: Metric) -> None:
        kind: type[Counter | Histogram] = Counter if metric.kind == COUNTER else Histogram
        self.dimension_names = metric.labels
        self._metric = kind(metric.name, f"{metric.unit}: {_MEANINGS}", metric.labels)

    def add_or_update(self, value: float, labels: Sequence[str]) -> None:
        """Count a value, or add it to the histogram."""
        own = self._metric.labels(*labels)
        if isinstance(own, Counter):
            own.inc(value)
        else:
            own.observe(value)


@cache
def emitters() -> SimpleNamespace:
    """What ``Metrics`` reports to: a registry has each metric once, for all models."""
    found = {each.name: (each.kind, _Emitter(each)) for each in METRICS}
    return SimpleNamespace(
        cache={
            kind: {name: emitter for name, (own, emitter) in found.items() if own == kind}
            for kind in (COUNTER, HISTOGRAM)
        }
    )


def page(accept: str) -> tuple[str, bytes]:
    """The metrics as Prometheus reads them: content type and text, of all processes where there are
    several. KServe's own page has those of whichever process it reaches.

    Args:
        accept: the request's header, which chooses between forms.
    """
    registry = REGISTRY
    if METRICS_FOLDER in os.environ:
        registry = CollectorRegistry()
        multiprocess.MultiProcessCollector(registry)
    encode, content_type = choose_encoder(accept)
    return content_type, encode(registry)
