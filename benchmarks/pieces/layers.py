"""The 3x3 convolutions by themselves: ours and OpenVINO's, in turns."""

from __future__ import annotations

from dataclasses import dataclass

from d2serve.server.measuring.figures import Figure


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


def layer_times(_repeats: int) -> tuple[LayerTimes, ...]:
    """Of each way that this machine has; none where the native code is not installed."""
    return ()
