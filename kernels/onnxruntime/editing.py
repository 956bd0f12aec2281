"""An ONNX file with other nodes, which takes its large tensors from the original.

A file is edited as bytes: what nobody understands here stays as it is, and a worker needs no
``onnx`` package. Tensors need not be copied: in the edited file a large one may be named by its
place in the original, from which ONNX Runtime maps it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from d2serve.kernels.onnxruntime.graph import (
    ATTRIBUTE_INT,
    ATTRIBUTE_NAME,
    GRAPH_INITIALIZER,
    GRAPH_NODE,
    MODEL_GRAPH,
    NODE_ATTRIBUTE,
    NODE_DOMAIN,
    NODE_INPUT,
    NODE_OUTPUT,
    NODE_TYPE,
    TENSOR_DIMS,
    TENSOR_NAME,
    TENSOR_TYPE,
    Graph,
    Tensor,
)
from d2serve.kernels.onnxruntime.protobuf import Place, encoded, encoded_integer, fields

# Messages' fields that are only written, by the messages' names in onnx.proto.
_MODEL_OPSET = 8
_OPSET_DOMAIN, _OPSET_VERSION = 1, 2
_ATTRIBUTE_KIND = 20
_KIND_INT = 2
_TENSOR_EXTERNAL, _TENSOR_LOCATION = 13, 14
_ENTRY_KEY, _ENTRY_VALUE = 1, 2
_LOCATION_EXTERNAL = 1

# A smaller tensor stays in the file: shapes and axes are read while the graph is built.
_LEAST_EXTERNAL = 4096


@dataclass(frozen=True)
class NewNode:
    """An operation that is to stand for another one."""

    operator: str
    domain: str
    inputs: tuple[str, ...]
    numbers: Mapping[str, int]
    """Its attributes."""

    def encoded(self, output: str) -> bytes:
        """As a graph's field."""
        attributes = (
            encoded(ATTRIBUTE_NAME, key)
            + encoded_integer(ATTRIBUTE_INT, value)
            + encoded_integer(_ATTRIBUTE_KIND, _KIND_INT)
            for key, value in self.numbers.items()
        )
        node = b"".join(
            (
                *(encoded(NODE_INPUT, each) for each in self.inputs),
                encoded(NODE_OUTPUT, output),
                encoded(NODE_TYPE, self.operator),
                encoded(NODE_DOMAIN, self.domain),
                *(encoded(NODE_ATTRIBUTE, each) for each in attributes),
            )
        )
        return encoded(GRAPH_NODE, node)


def edited(graph: Graph, new: Mapping[int, NewNode], file_name: str | None) -> bytes:
    """The file with other nodes, which takes its large tensors from the original.

    What only nodes took that are gone is left out: nodes, and tensors.

    Args:
        graph: of the file.
        new: by its index, what stands for a node, and makes the same value.
        file_name: of the original. The edited file must be read as if it lay beside it. None
            copies the tensors.
    """
    kept, used = _kept(graph, new)
    written = bytearray()
    for each in fields(graph.data, Place(0, len(graph.data))):
        if each.number == MODEL_GRAPH:
            parts = _graph_edited(graph, each.content, new, kept, used, file_name)
            written += encoded(MODEL_GRAPH, b"".join(parts))
        else:
            written += each.whole.of(graph.data)
    for domain in sorted({node.domain for node in new.values()}):
        opset = encoded(_OPSET_DOMAIN, domain) + encoded_integer(_OPSET_VERSION, 1)
        written += encoded(_MODEL_OPSET, opset)
    return bytes(written)


def _kept(graph: Graph, new: Mapping[int, NewNode]) -> tuple[set[int], Counter[str]]:
    """Which nodes stay, and how often something takes a value then."""
    used = graph.uses.copy()
    kept = set(range(len(graph.nodes)))
    for index, node in new.items():
        used.subtract(graph.nodes[index].inputs)
        used.update(node.inputs)
    # A node stands behind those whose values it takes.
    for index in reversed(range(len(graph.nodes))):
        outputs = graph.nodes[index].outputs
        was_used = any(graph.uses[each] for each in outputs)
        if index not in new and was_used and not any(used[each] > 0 for each in outputs):
            kept.remove(index)
            used.subtract(graph.nodes[index].inputs)
    return kept, used


def _graph_edited(
    graph: Graph,
    place: Place,
    new: Mapping[int, NewNode],
    kept: set[int],
    used: Counter[str],
    file_name: str | None,
) -> Iterator[bytes | memoryview]:
    node = 0
    constants = iter(graph.tensors.values())
    for each in fields(graph.data, place):
        if each.number == GRAPH_NODE:
            if node in new:
                yield new[node].encoded(graph.nodes[node].outputs[0])
            elif node in kept:
                yield each.whole.of(graph.data)
            node += 1
        elif each.number == GRAPH_INITIALIZER:
            constant = next(constants)
            if used[constant.name] > 0 or constant.name in graph.given:
                yield _external(constant, file_name) or each.whole.of(graph.data)
        else:
            yield each.whole.of(graph.data)


def _external(tensor: Tensor, file_name: str | None) -> bytes | None:
    """The tensor without its values, named by their place; None where it stays as it is."""
    raw = tensor.raw
    if file_name is None or raw is None or raw.length < _LEAST_EXTERNAL:
        return None
    places = {"location": file_name, "offset": str(raw.start), "length": str(raw.length)}
    written = b"".join(
        (
            *(encoded_integer(TENSOR_DIMS, each) for each in tensor.shape),
            encoded_integer(TENSOR_TYPE, tensor.element_type),
            encoded(TENSOR_NAME, tensor.name),
            *(
                encoded(_TENSOR_EXTERNAL, encoded(_ENTRY_KEY, key) + encoded(_ENTRY_VALUE, value))
                for key, value in places.items()
            ),
            encoded_integer(_TENSOR_LOCATION, _LOCATION_EXTERNAL),
        )
    )
    return encoded(GRAPH_INITIALIZER, written)
