"""The operators of ONNX that TensorFlow programs may have, in one table: where each is computed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from d2serve.export.programs.tensorflow import (
    convolutions,
    elementwise,
    indexing,
    pooling,
    products,
    reductions,
    resizing,
    sampling,
    shapes,
    slicing,
    suppression,
)
from d2serve.export.programs.tensorflow.values import Node

Operator = Callable[[Node], Any]
"""Gives a ``Value`` or an array, or several of them where it has several outputs."""

OPERATORS: dict[str, Operator] = {
    **elementwise.OPERATORS,
    **shapes.OPERATORS,
    **slicing.OPERATORS,
    **indexing.OPERATORS,
    **reductions.OPERATORS,
    **products.OPERATORS,
    **convolutions.OPERATORS,
    **pooling.OPERATORS,
    **resizing.OPERATORS,
    **sampling.OPERATORS,
    **suppression.OPERATORS,
}
"""By ONNX's name, as opset 17 defines them. ``Constant`` and ``If`` are read in importing.py."""
