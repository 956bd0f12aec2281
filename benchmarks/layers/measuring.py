"""CPU seconds of each layer, by OpenVINO and by the native kernels, one after the other."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median

import numpy as np
import openvino as ov
from numpy.typing import NDArray
from openvino import opset8 as operators

from benchmarks.layers.layers import Layer
from d2serve.kernels.library import Convolution


def openvino_layer(
    layer: Layer, weights: NDArray[np.float32], bias: NDArray[np.float32]
) -> Callable[[NDArray[np.float32]], object]:
    """OpenVINO's own convolution with its bias and ReLU, in float32, on one thread."""
    images = operators.parameter(
        [layer.images, layer.ins, layer.height, layer.width], np.float32, name="images"
    )
    summed = operators.convolution(
        images, operators.constant(weights), [1, 1], [1, 1], [1, 1], [1, 1]
    )
    shifted = operators.add(summed, operators.constant(bias.reshape(1, -1, 1, 1)))
    model = ov.Model([operators.relu(shifted) if layer.relu else shifted], [images], "layer")
    compiled = ov.Core().compile_model(
        model,
        "CPU",
        {"INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": "f32"},
    )
    asked = compiled.create_infer_request()

    def run(pixels: NDArray[np.float32]) -> object:
        return asked.infer([pixels], share_inputs=True, share_outputs=True)

    return run


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
    times: tuple[list[float], list[float]] = ([], [])
    for at in range(rounds + 1):
        for index, run in enumerate((lambda: theirs(pixels), lambda: ours(pixels, result, 1))):
            # OpenVINO may run on a thread of its own.
            began = time.process_time()
            run()
            if at:  # The first run of each makes what later ones keep.
                times[index].append(time.process_time() - began)
    return median(times[0]), median(times[1])
