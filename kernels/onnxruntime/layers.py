"""The native layers of a program, each made once and kept for all its sessions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Optional, Union

import numpy as np
from numpy.typing import NDArray

from d2serve.kernels.onnxruntime.convolutions import Layer
from d2serve.kernels.onnxruntime.graph import Graph
from d2serve.kernels.pointwise import Pointwise, four_of
from d2serve.kernels.weights import transformed
from d2serve.kernels.winograd import Convolution

_Weights = NDArray[np.float32]
_Native = Union[Convolution, Pointwise]
_Make = Callable[[Layer, _Weights, Optional[_Weights]], _Native]


class Layers:
    """Operators have the layers' addresses, so it must outlive the sessions."""

    def __init__(self, beside: Path | None) -> None:
        """
        Args:
            beside: where transformed weights are shared, see ``transformed``.
        """
        self._beside = beside
        self._made: dict[Layer, _Native] = {}

    def convolution(self, layer: Layer, graph: Graph) -> int:
        """The address of a 3x3 convolution by Winograd's algorithm."""
        return self._address(layer, graph, self._winograd)

    def pointwise(self, layer: Layer, graph: Graph) -> int:
        """The address of a 1x1 convolution."""
        return self._address(layer, graph, _pointwise)

    def deconvolution(self, layer: Layer, graph: Graph) -> int:
        """The address of the 1x1 convolution that a deconvolution is, see ``four_of``."""
        return self._address(layer, graph, _four)

    def _address(self, layer: Layer, graph: Graph, make: _Make) -> int:
        if layer not in self._made:
            # Copies: in the file they lie at any address.
            bias = np.array(graph.floats(layer.bias)) if layer.bias else None
            self._made[layer] = make(layer, np.array(graph.floats(layer.weights)), bias)
        return self._made[layer].address

    def _winograd(self, layer: Layer, weights: _Weights, bias: _Weights | None) -> Convolution:
        stored = transformed(weights, self._beside)
        return Convolution.of(weights, bias, layer.relu, transformed=stored)


def _pointwise(layer: Layer, weights: _Weights, bias: _Weights | None) -> Pointwise:
    return Pointwise(weights, bias, layer.relu, layer.stride, upsampled=layer.upsampled)


def _four(layer: Layer, weights: _Weights, bias: _Weights | None) -> Pointwise:
    return _pointwise(layer, *four_of(weights, bias))
