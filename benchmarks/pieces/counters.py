"""Which layers a forward on OpenVINO spends its time in, by OpenVINO's own counters.

They are of a forward by itself: counting costs time, so only the shares are kept.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import openvino as ov

from d2serve.handlers.runtimes.raw_outputs import AnyArray

_MULTIPLYING = (
    "Convolution",
    "GroupConvolution",
    "ConvolutionBackpropData",
    "FullyConnected",
    "MatMul",
)
_NAMED = 3


@dataclass(frozen=True)
class LayerShares:
    """Shares of a forward's time; their sum is at most 1."""

    multiplying: float
    """Of the layers that multiply matrices."""
    others: dict[str, float]
    """Of those types of other layers that take the most."""


def layer_shares(
    program: Path, inputs: Sequence[AnyArray], float_type: str, threads: int
) -> LayerShares:
    """Run a program with OpenVINO's counters.

    Args:
        program: the .xml.
        inputs: what it takes, in its order.
        float_type: in which it computes.
        threads: it takes.
    """
    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": float_type,
        "PERF_COUNT": True,
    }
    request = ov.Core().compile_model(program, "CPU", settings).create_infer_request()
    for _ in range(2):  # memory is allocated and kernels are chosen in the first
        request.infer([np.asarray(each, order="C") for each in inputs])
    seconds: Counter[str] = Counter()
    for layer in request.get_profiling_info():
        seconds[layer.node_type] += layer.real_time.total_seconds()
    everything = sum(seconds.values())
    multiplying = sum(seconds.pop(each, 0.0) for each in _MULTIPLYING)
    return LayerShares(
        multiplying / everything,
        {layer: share / everything for layer, share in seconds.most_common(_NAMED)},
    )
