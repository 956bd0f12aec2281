"""Finds the convolutions of an ONNX program that native code can do, and what goes with each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from d2serve.kernels.onnxruntime.graph import FLOAT, Graph, Node, Tensor

# What an attribute may be, by the size of the kernel; None where it may be left out.
_FITTING: Mapping[int, Mapping[str, tuple[object, ...]]] = {
    3: {
        "kernel_shape": ((3, 3), None),
        "strides": ((1, 1), None),
        "pads": ((1, 1, 1, 1),),
    },
    1: {
        "kernel_shape": ((1, 1), None),
        "strides": ((1, 1), (2, 2), None),
        "pads": ((0, 0, 0, 0), None),
    },
}
_FITTING_ALL = {"dilations": ((1, 1), None), "group": (1, None), "auto_pad": ("NOTSET", None)}
_DOUBLING = {
    "mode": "nearest",
    "nearest_mode": "floor",
    "coordinate_transformation_mode": "asymmetric",
}


@dataclass(frozen=True)
class Layer:
    """What makes two convolutions one layer, which runs more than once."""

    weights: str
    bias: str
    relu: bool
    stride: int
    upsampled: bool
    """Whether each of a residual's values is added to two by two."""


@dataclass(frozen=True)
class Found:
    """A convolution that can be replaced, with its sum and ReLU."""

    layer: Layer
    last: int
    """The index of the node whose result is the replacement's."""
    images: str
    residual: str | None
    """What is added after the bias; only to a 1x1 convolution of stride 1."""

    @property
    def inputs(self) -> tuple[str, ...]:
        """What the replacement takes."""
        return (self.images,) if self.residual is None else (self.images, self.residual)


def fitting(graph: Graph, size: int) -> Iterator[Found]:
    """The convolutions of one group with constant weights, in fp32, that fit.

    Args:
        graph: of a program.
        size: of the kernel, 3 or 1.
    """
    summed: set[int] = set()
    for index, node in enumerate(graph.nodes):
        if not has_attributes(node, "Conv", {**_FITTING[size], **_FITTING_ALL}):
            continue
        constants = weights_and_bias(graph, node, size)
        if constants is None:
            continue
        outs = graph.tensors[constants[0]].shape[0]
        last, residual, upsampled = index, None, False
        stride = 2 if node.attributes.get("strides") == (2, 2) else 1
        # With a single output, the sum may have more channels than the convolution gives.
        if size == 1 and stride == 1 and outs > 1:
            add = graph.only_taker(index, "Add")
            if add is not None and add not in summed:
                other = _other(graph.nodes[add], node.outputs[0])
                if not _is_constant(graph, other):
                    summed.add(add)
                    last, residual = add, other
                    upsampled = _doubles(graph, other)
                    if upsampled:
                        residual = _made_by(graph, other).inputs[0]
        relu = graph.only_taker(last, "Relu")
        layer = Layer(*constants, relu is not None, stride, upsampled)
        yield Found(layer, last if relu is None else relu, node.inputs[0], residual)


def has_attributes(node: Node, operator: str, fits: Mapping[str, tuple[object, ...]]) -> bool:
    """Whether a node is this operator of ONNX's own, with what each attribute may be; None where
    it may be left out."""
    return node.is_standard(operator) and all(
        node.attributes.get(name) in values for name, values in fits.items()
    )


def weights_and_bias(graph: Graph, node: Node, size: int) -> tuple[str, str] | None:
    """The names of a convolution's constants, the second one empty where there is no bias; None
    where one is no constant of float32, or the kernel has another size."""
    weights = graph.constant(node.inputs[1])
    bias = graph.constant(node.inputs[2]) if len(node.inputs) > 2 else ""
    kernel = graph.floats(weights)
    if kernel is None or kernel.shape[2:] != (size, size):
        return None
    return None if bias and graph.floats(bias) is None else (weights, bias)


def _is_constant(graph: Graph, name: str) -> bool:
    name = graph.constant(name)
    maker = graph.maker(name)
    return name in graph.tensors or (maker is not None and maker.is_standard("Constant"))


def _other(node: Node, one: str) -> str:
    """The other of the two that a node takes."""
    first, second = node.inputs
    return second if first == one else first


def _made_by(graph: Graph, name: str) -> Node:
    maker = graph.maker(name)
    assert maker is not None
    return maker


def _doubles(graph: Graph, name: str) -> bool:
    """Whether a value is another one, each of whose values became two by two for it alone."""
    node = graph.maker(name)
    if node is None or not node.is_standard("Resize") or graph.uses[name] != 1:
        return False
    # The images, and how they are cropped, which only another mode looks at; sizes come fourth.
    if len(node.inputs) != 3 or any(node.attributes.get(k) != v for k, v in _DOUBLING.items()):
        return False
    return _floats(graph, node.inputs[2]) == [1.0, 1.0, 2.0, 2.0]


def _floats(graph: Graph, name: str) -> list[float] | None:
    """A constant's few values; None where it is none of float32."""
    name = graph.constant(name)
    kept, maker = graph.floats(name), graph.maker(name)
    if kept is not None:
        return [float(each) for each in kept.reshape(-1)]
    if maker is None or not maker.is_standard("Constant"):
        return None
    value = maker.attributes.get("value")
    if not isinstance(value, Tensor) or value.raw is None or value.element_type != FLOAT:
        return None
    return [float(each) for each in np.frombuffer(value.raw.of(graph.data), "<f4")]
