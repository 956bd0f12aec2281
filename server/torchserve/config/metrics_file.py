"""The text of metrics.yaml, TorchServe's list of the metrics that it exports.

TorchServe exports only what this file lists, its own metrics among them. The file in the root of
the repository is this text, and a server that this package starts gets it in its private directory.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from d2serve.handlers.torchserve.metrics import COUNTER, HISTOGRAM, METRICS

FILE_NAME = "metrics.yaml"

_HEAD = """\
# The metrics of TorchServe and of the models, for Prometheus: see docs/observing.md.
# config.properties names this file; TorchServe looks for it in the directory that it is started
# in, and without it no worker starts. What is not listed is not exported: TorchServe's own stand
# here as in its default file. Written from the code:
# `python -m d2serve.server.torchserve.config.metrics_file`.
"""

_HOST = ("Level", "Hostname")
_MODEL = ("model_name", "model_version", "hostname")
_GPU = ("Level", "DeviceId", "Hostname")
_OWN_COUNTERS = {
    "Requests2XX": ("Count", _HOST),
    "Requests4XX": ("Count", _HOST),
    "Requests5XX": ("Count", _HOST),
    "ts_inference_requests_total": ("Count", _MODEL),
    "ts_inference_latency_microseconds": ("Microseconds", _MODEL),
    "ts_queue_latency_microseconds": ("Microseconds", _MODEL),
}
_OWN_GAUGES = {
    "QueueTime": ("Milliseconds", _HOST),
    "WorkerThreadTime": ("Milliseconds", _HOST),
    "WorkerLoadTime": ("Milliseconds", ("WorkerName", *_HOST)),
    "CPUUtilization": ("Percent", _HOST),
    "MemoryUsed": ("Megabytes", _HOST),
    "MemoryAvailable": ("Megabytes", _HOST),
    "MemoryUtilization": ("Percent", _HOST),
    "DiskUsage": ("Gigabytes", _HOST),
    "DiskUtilization": ("Percent", _HOST),
    "DiskAvailable": ("Gigabytes", _HOST),
    "GPUMemoryUtilization": ("Percent", _GPU),
    "GPUMemoryUsed": ("Megabytes", _GPU),
    "GPUUtilization": ("Percent", _GPU),
}
_OWN_OF_WORKERS = {
    "HandlerTime": ("ms", ("ModelName", "Level")),
    "PredictionTime": ("ms", ("ModelName", "Level")),
}

_Listed = Mapping[str, tuple[str, Iterable[str]]]


def metrics_file() -> str:
    """The text of a metrics.yaml with all of TorchServe's metrics and ours."""
    ours = {
        kind: {each.name: (each.unit, each.labels) for each in METRICS if each.kind == kind}
        for kind in (COUNTER, HISTOGRAM)
    }
    own = _section("ts_metrics", {"counter": _OWN_COUNTERS, "gauge": _OWN_GAUGES})
    return "\n".join([_HEAD, own, _section("model_metrics", {"gauge": _OWN_OF_WORKERS, **ours})])


def _section(name: str, kinds: Mapping[str, _Listed]) -> str:
    lines = [f"{name}:"]
    for kind, listed in kinds.items():
        lines.append(f"  {kind}:")
        for metric, (unit, labels) in listed.items():
            fields = f"name: {metric}, unit: {unit}, dimensions: [{', '.join(labels)}]"
            lines.append(f"    - {{{fields}}}")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(metrics_file(), end="")  # noqa: T201
