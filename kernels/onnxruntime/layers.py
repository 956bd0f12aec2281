"""The native layers of a program, each made once and kept for all its sessions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from d2serve.kernels.onnxruntime.convolutions import Layer
from d2serve.kernels.onnxruntime.graph import Graph
from d2serve.kernels.pointwise import Pointwise, four_of
from d2serve.kernels.weights import transformed
from d2serve.kernels.winograd import Convolution

_Weights = NDArray[np.float32]


class Layers:
    """Operators have the layers' addresses, so it must outlive the sessions."""

    def __init__(self, beside: Path | None) -> None:
        """
        Args:
            beside: where transformed weights are shared, see ``transformed``.
        """
        self._beside = beside
        self._made: dict[Layer, Convolution | Pointwise] = {}

    def convolution(self, layer: Layer, graph: Graph) -> int:
        """The address of a 3x3 convolution by Winograd's algorithm."""
        if layer not in self._made:
            weights, bias = _tensors(layer, graph)
            stored = transformed(weights, self._beside)
            self._made[layer] = Convolution.of(weights, bias, layer.relu, transformed=stored)
        return self._made[layer].address

    def pointwise(self, layer: Layer, graph: Graph) -> int:
        """The address of a 1x1 convolution."""
        if layer not in self._made:
            weights, bias = _tensors(layer, graph)
            self._made[layer] = _pointwise(layer, weights, bias)
        return self._made[layer].address

    def deconvolution(self, layer: Layer, graph: Graph) -> int:
        """The address of the 1x1 convolution that a deconvolution is, see ``four_of``."""
        if layer not in self._made:
            self._made[layer] = _pointwise(layer, *four_of(*_tensors(layer, graph)))
        return self._made[layer].address


def _pointwise(layer: Layer, weights: _Weights, bias: _Weights | None) -> Pointwise:
    return Pointwise(weights, bias, layer.relu, layer.stride, upsampled=layer.upsampled)


def _tensors(layer: Layer, graph: Graph) -> tuple[_Weights, _Weights | None]:
    """Its weights and its bias. They are copies: in the file they lie at any address."""
    bias = np.array(graph.floats(layer.bias)) if layer.bias else None
    return np.array(graph.floats(layer.weights)), bias
