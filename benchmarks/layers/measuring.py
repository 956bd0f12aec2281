"""CPU seconds of each layer, by OpenVINO and by the native kernels, one after the other."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

import numpy as np
import openvino as ov
from numpy.typing import NDArray
from openvino import opset8 as operators

from benchmarks.layers.layers import LAYERS, Layer
from benchmarks.shared.errors import BenchError
from d2serve.kernels.library import ways
from d2serve.kernels.winograd import Convolution

ROUNDS = 5

_INSTRUCTIONS = {"avx2": "AVX2", "avx512": "ALL"}
"""What OpenVINO may use beside a way of ours, in oneDNN's words."""


@dataclass(frozen=True)
class LayerSeconds:
    """The CPU seconds of one run of a layer on one thread."""

    part: str
    size: str
    times: int
    openvino: float
    ours: float


@dataclass(frozen=True)
class WaySeconds:
    """All 3x3 layers of stride 1 of an image, by one set of instructions on either side."""

    way: str
    layers: tuple[LayerSeconds, ...]

    @property
    def openvino(self) -> float:
        """The CPU seconds of an image's layers, each as often as it runs."""
        return sum(each.times * each.openvino for each in self.layers)

    @property
    def ours(self) -> float:
        """The same, of the native kernels."""
        return sum(each.times * each.ours for each in self.layers)

    @property
    def ratio(self) -> float:
        """Our time by OpenVINO's."""
        return self.ours / self.openvino


def measured_ways() -> tuple[str, ...]:
    """Those that this CPU runs, but for the portable one, which is not for speed."""
    return tuple(way for way in ways() if way in _INSTRUCTIONS)


def measure(way: str, rounds: int = ROUNDS) -> WaySeconds:
    """Measure every layer in a process of its own, since oneDNN reads its limit when it is loaded.

    Args:
        way: of ``measured_ways()``; OpenVINO is held to the same instructions.
        rounds: runs of each side, of which the median counts.

    Raises:
        BenchError: the process failed.
    """
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "benchmarks.layers", way, str(rounds)],
        env={**os.environ, "ONEDNN_MAX_CPU_ISA": _INSTRUCTIONS[way]},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise BenchError(f"The layers could not be measured with {way}:\n{done.stderr}")
    rows = json.loads(done.stdout)
    return WaySeconds(way, tuple(LayerSeconds(**row) for row in rows))


def measure_here(way: str, rounds: int) -> str:
    """What ``measure`` reads from its process."""
    rows = []
    for layer in LAYERS:
        theirs, ours = seconds_of(layer, way, rounds)
        size = f"{layer.images} x {layer.ins} x {layer.height} x {layer.width}"
        rows.append(asdict(LayerSeconds(layer.part, size, layer.times, theirs, ours)))
    return json.dumps(rows)


def openvino_layer(
    layer: Layer, weights: NDArray[np.float32], bias: NDArray[np.float32]
) -> Callable[[NDArray[np.float32]], object]:
    """OpenVINO's own convolution with its bias and ReLU, in float32, on one thread."""
    images: Any = operators.parameter(
        [layer.images, layer.ins, layer.height, layer.width], np.float32, name="images"
    )
    summed: Any = operators.convolution(
        images, operators.constant(weights), [1, 1], [1, 1], [1, 1], [1, 1]
    )
    shifted: Any = operators.add(summed, operators.constant(bias.reshape(1, -1, 1, 1)))
    last = operators.relu(shifted) if layer.relu else shifted
    model = ov.Model([last], [images], "layer")
    compiled: Any = ov.Core().compile_model(
        model,
        "CPU",
        {"INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": "f32"},
    )
    asked = compiled.create_infer_request().infer
    return lambda pixels: asked([pixels], share_inputs=True, share_outputs=True)


def seconds_of(layer: Layer, way: str, rounds: int) -> tuple[float, float]:
    """The median CPU seconds of one run, of OpenVINO and of ours, alternating."""
    random = np.random.default_rng(0)
    shape = (layer.outs, layer.ins, 3, 3)
    scale = np.float32(np.sqrt(2 / (9 * layer.ins)))
    weights = random.standard_normal(shape, dtype=np.float32) * scale
    bias = random.standard_normal(layer.outs, dtype=np.float32)
    pixels = random.standard_normal(
        (layer.images, layer.ins, layer.height, layer.width), dtype=np.float32
    )
    result = np.empty((layer.images, layer.outs, layer.height, layer.width), np.float32)
    theirs = openvino_layer(layer, weights, bias)
    ours = Convolution.of(weights, bias, layer.relu, way)
    runs: list[Callable[[], object]] = [
        lambda: theirs(pixels),
        lambda: ours(pixels, result, 1),
    ]
    times: list[list[float]] = [[], []]
    for at in range(rounds + 1):
        for run, taken in zip(runs, times):
            # OpenVINO may run on a thread of its own.
            began = time.process_time()
            run()
            if at:  # The first run of each makes what later ones keep.
                taken.append(time.process_time() - began)
    return median(times[0]), median(times[1])
