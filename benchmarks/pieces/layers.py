"""The 3x3 convolutions by themselves, ours and OpenVINO's, with the range of some turns."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.layers.measuring import measure, measured_ways
from d2serve.server.measuring.figures import Figure, median_of, median_ratio


@dataclass(frozen=True)
class LayerTimes:
    """All 3x3 convolutions of the model with stride 1, each as often as it runs."""

    way: str
    """Instructions that both use at most."""
    openvino: Figure
    """Milliseconds of one thread."""
    ours: Figure
    share: Figure
    """Ours by OpenVINO's."""


def layer_times(repeats: int) -> tuple[LayerTimes, ...]:
    """Of each way that this machine has; none where the native code is not installed.

    Args:
        repeats: times that all are measured, after a first run of each.

    Raises:
        BenchError: they could not be measured.
    """
    return tuple(_of_way(way, repeats) for way in measured_ways())


def _of_way(way: str, repeats: int) -> LayerTimes:
    turns = [measure(way, rounds=1) for _ in range(repeats)]
    theirs = [1000 * each.openvino for each in turns]
    ours = [1000 * each.ours for each in turns]
    return LayerTimes(way, median_of(theirs), median_of(ours), median_ratio(ours, theirs))
