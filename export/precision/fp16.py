"""Makes ONNX programs whose network runs in fp16 and whose arithmetic on boxes runs in fp32.

Convolutions and matrix products with constant weights, and what lies between two of them, take and
give fp16. All else stays as it is: a box coordinate of 800 pixels would be rounded to half a one.
TensorRT runs what the types say, and so does ONNX Runtime, by which the price can be measured on a
CPU.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx
from onnx import numpy_helper

_WEIGHTED = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
# In fp16 where all that they compute with is; of Resize the first input alone is a number of the
# network, the others are sizes.
_BETWEEN = {"Add": 2, "AveragePool": 1, "Flatten": 1, "MaxPool": 1, "Relu": 1, "Resize": 1}
_HALF = "/fp16"


def to_fp16(program: onnx.ModelProto) -> int:
    """Put a program's network into fp16, in place; returns how many operations run in it.

    Args:
        program: in fp32, without branches that hold a part of the network.
    """
    graph = program.graph
    weights = {each.name: each for each in graph.initializer}
    floats = {n for n, each in weights.items() if each.data_type == onnx.TensorProto.FLOAT}
    produced = _network(graph, floats)
    wanted_in_fp32 = {each.name for each in graph.output} | {
        name
        for node in graph.node
        for name in (*_outer(node), *(() if _is_half(node, produced) else node.input))
    }
    nodes: list[onnx.NodeProto] = []
    have = set(produced)
    for node in graph.node:
        if _is_half(node, produced):
            for position in range(_computes_with(node)):
                name = node.input[position]
                if name and name in floats:
                    if name not in have:
                        graph.initializer.append(_halved(weights[name]))
                elif name and name not in have:
                    nodes.append(_cast(name, name + _HALF, onnx.TensorProto.FLOAT16))
                have.add(name)
                node.input[position] = name + _HALF
            (answer,) = node.output
            node.output[0] = answer + _HALF
            nodes.append(node)
            if answer in wanted_in_fp32:
                nodes.append(_cast(answer + _HALF, answer, onnx.TensorProto.FLOAT))
        else:
            nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)
    _drop_unused(graph, floats)
    del graph.value_info[:]  # what it says of types is no longer so
    return len(produced)


def _network(graph: onnx.GraphProto, floats: set[str]) -> set[str]:
    """What the operations of the network give, by name."""
    produced: set[str] = set()
    for node in graph.node:
        if node.op_type in _WEIGHTED:
            belongs = node.input[1] in floats
        elif node.op_type in _BETWEEN and len(node.output) == 1:
            used = [name for name in node.input[: _BETWEEN[node.op_type]] if name]
            belongs = any(n in produced for n in used) and all(
                n in produced or n in floats for n in used
            )
        else:
            belongs = False
        if belongs:
            produced.update(node.output)
    return produced


def _is_half(node: onnx.NodeProto, produced: set[str]) -> bool:
    return bool(node.output) and node.output[0] in produced


def _computes_with(node: onnx.NodeProto) -> int:
    """How many of an operation's inputs, the first ones, are numbers of the network."""
    return _BETWEEN.get(node.op_type, len(node.input))


def _outer(node: onnx.NodeProto) -> Iterator[str]:
    """Names that the branches of a node may take from around it."""
    for attribute in node.attribute:
        if attribute.type == onnx.AttributeProto.GRAPH:
            for each in attribute.g.node:
                yield from each.input
                yield from _outer(each)
            yield from (each.name for each in attribute.g.output)


def _halved(tensor: onnx.TensorProto) -> onnx.TensorProto:
    array = numpy_helper.to_array(tensor).astype(np.float16)
    return numpy_helper.from_array(array, tensor.name + _HALF)


def _cast(source: str, target: str, to: int) -> onnx.NodeProto:
    return onnx.helper.make_node("Cast", [source], [target], name=f"{target}/cast", to=to)


def _drop_unused(graph: onnx.GraphProto, floats: set[str]) -> None:
    used = {name for node in graph.node for name in (*node.input, *_outer(node))}
    kept = [each for each in graph.initializer if each.name not in floats or each.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)
