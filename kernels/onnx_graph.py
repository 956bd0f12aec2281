"""The graph of an ONNX file: what its nodes are, and the same file with other nodes.

A file is edited as bytes: what nobody understands here stays as it is, a worker needs no ``onnx``
package, and tensors are not copied: in the edited file a large one is named by its place in the
original, from which ONNX Runtime maps it. The fields: onnx.proto, whose numbers never change.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from d2serve.kernels.protobuf import (
    VARINT,
    Field,
    Place,
    WireError,
    encoded,
    encoded_integer,
    fields,
    packed,
    signed,
)

# Messages' fields, by the messages' names in onnx.proto.
_MODEL_GRAPH, _MODEL_OPSET = 7, 8
_OPSET_DOMAIN, _OPSET_VERSION = 1, 2
_GRAPH_NODE, _GRAPH_INITIALIZER, _GRAPH_INPUT, _GRAPH_OUTPUT = 1, 5, 11, 12
_VALUE_NAME = 1
_NODE_INPUT, _NODE_OUTPUT, _NODE_TYPE, _NODE_ATTRIBUTE, _NODE_DOMAIN = 1, 2, 4, 5, 7
_ATTRIBUTE_NAME, _ATTRIBUTE_INT, _ATTRIBUTE_TEXT, _ATTRIBUTE_GRAPH = 1, 3, 4, 6
_ATTRIBUTE_INTS, _ATTRIBUTE_GRAPHS, _ATTRIBUTE_KIND = 8, 11, 20
_KIND_INT = 2
_TENSOR_DIMS, _TENSOR_TYPE, _TENSOR_NAME, _TENSOR_RAW = 1, 2, 8, 9
_TENSOR_EXTERNAL, _TENSOR_LOCATION = 13, 14
_ENTRY_KEY, _ENTRY_VALUE = 1, 2
_LOCATION_EXTERNAL = 1

FLOAT = 1
"""The element type float32."""

# A smaller tensor stays in the file: shapes and axes are read while the graph is built.
_LEAST_EXTERNAL = 4096


@dataclass(frozen=True)
class Node:
    """One operation of the graph."""

    operator: str
    domain: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, int | str | tuple[int, ...]]
    """Numbers and text; others are left out."""


@dataclass(frozen=True)
class Tensor:
    """A constant of the graph."""

    name: str
    element_type: int
    shape: tuple[int, ...]
    raw: Place | None
    """Where its values lie as they are in memory; None where they are kept in another way."""
    whole: Place


@dataclass
class Graph:
    """The nodes and constants of a file's main graph; what its branches hold is only counted."""

    data: memoryview
    nodes: list[Node] = field(default_factory=list)
    tensors: dict[str, Tensor] = field(default_factory=dict)
    given: set[str] = field(default_factory=set)
    """Inputs: where a constant is one too, a caller may give another value."""
    uses: Counter[str] = field(default_factory=Counter)
    """How often something takes a value: a node, also one in a branch, or an output."""

    @classmethod
    def read(cls, data: memoryview) -> Graph:
        """
        Args:
            data: a whole file.

        Raises:
            WireError: it is no ONNX file.
        """
        graph = cls(data)
        for each in fields(data, Place(0, len(data))):
            if each.number == _MODEL_GRAPH:
                graph._read(each.content)
        return graph

    def floats(self, name: str) -> npt.NDArray[np.float32] | None:
        """A constant's values, as they lie in the file; None where ``name`` is none of float32."""
        tensor = self.tensors.get(name)
        if tensor is None or name in self.given:
            return None
        count = int(np.prod(tensor.shape, dtype=np.int64))
        raw = tensor.raw
        if raw is None or tensor.element_type != FLOAT or raw.length != 4 * count:
            return None
        return np.frombuffer(raw.of(self.data), "<f4").reshape(tensor.shape)

    def edited(self, nodes: Mapping[int, bytes], domain: str, file_name: str) -> bytes:
        """The file with other nodes, which takes its large tensors from the original.

        Args:
            nodes: by its index, what stands for a node: an encoded node, or nothing.
            domain: of operators, which the file then uses too.
            file_name: of the original. The edited file must be read as if it lay beside it.
        """
        used = self.uses - Counter(
            name for index in nodes for name in self.nodes[index].inputs if name in self.tensors
        )
        written = bytearray()
        for each in fields(self.data, Place(0, len(self.data))):
            if each.number == _MODEL_GRAPH:
                graph = b"".join(self._graph_edited(each.content, nodes, used, file_name))
                written += encoded(_MODEL_GRAPH, graph)
            else:
                written += each.whole.of(self.data)
        opset = encoded(_OPSET_DOMAIN, domain) + encoded_integer(_OPSET_VERSION, 1)
        return bytes(written + encoded(_MODEL_OPSET, opset))

    def _graph_edited(
        self, graph: Place, nodes: Mapping[int, bytes], used: Counter[str], file_name: str
    ) -> Iterator[bytes | memoryview]:
        node = 0
        constants = iter(self.tensors.values())
        for each in fields(self.data, graph):
            if each.number == _GRAPH_NODE:
                yield nodes.get(node, each.whole.of(self.data))
                node += 1
            elif each.number == _GRAPH_INITIALIZER:
                constant = next(constants)
                if used[constant.name] or constant.name in self.given:
                    yield _external(constant, file_name) or each.whole.of(self.data)
            else:
                yield each.whole.of(self.data)

    def _read(self, graph: Place) -> None:
        for each in fields(self.data, graph):
            if each.number == _GRAPH_NODE:
                self.nodes.append(self._node(each.content))
            elif each.number == _GRAPH_INITIALIZER:
                tensor = self._tensor(each.content)
                if tensor.name in self.tensors:
                    raise WireError(f"two constants have the name {tensor.name}")
                self.tensors[tensor.name] = tensor
            elif each.number == _GRAPH_INPUT:
                self.given.add(self._name(each))
            elif each.number == _GRAPH_OUTPUT:
                self.uses[self._name(each)] += 1

    def _node(self, node: Place) -> Node:
        text = {_NODE_TYPE: "", _NODE_DOMAIN: ""}
        inputs: list[str] = []
        outputs: list[str] = []
        attributes: dict[str, int | str | tuple[int, ...]] = {}
        for each in fields(self.data, node):
            if each.number == _NODE_INPUT:
                inputs.append(self._text(each.content))
            elif each.number == _NODE_OUTPUT:
                outputs.append(self._text(each.content))
            elif each.number == _NODE_ATTRIBUTE:
                attributes.update(self._attribute(each.content))
            elif each.number in text:
                text[each.number] = self._text(each.content)
        self.uses.update(inputs)
        return Node(text[_NODE_TYPE], text[_NODE_DOMAIN], tuple(inputs), tuple(outputs), attributes)

    def _attribute(self, attribute: Place) -> Iterator[tuple[str, int | str | tuple[int, ...]]]:
        name = ""
        value: int | str | None = None
        numbers: list[int] = []
        for each in fields(self.data, attribute):
            if each.number == _ATTRIBUTE_NAME:
                name = self._text(each.content)
            elif each.number == _ATTRIBUTE_INT:
                value = signed(each.value)
            elif each.number == _ATTRIBUTE_TEXT:
                value = self._text(each.content)
            elif each.number == _ATTRIBUTE_INTS:
                numbers += self._numbers(each)
            elif each.number in (_ATTRIBUTE_GRAPH, _ATTRIBUTE_GRAPHS):
                self._count(each.content)
        if value is not None:
            yield name, value
        elif numbers:
            yield name, tuple(numbers)

    def _count(self, branch: Place) -> None:
        for each in fields(self.data, branch):
            if each.number == _GRAPH_NODE:
                self._node(each.content)
            elif each.number == _GRAPH_OUTPUT:
                self.uses[self._name(each)] += 1

    def _tensor(self, tensor: Place) -> Tensor:
        name, element_type, raw = "", 0, None
        shape: list[int] = []
        for each in fields(self.data, tensor):
            if each.number == _TENSOR_NAME:
                name = self._text(each.content)
            elif each.number == _TENSOR_TYPE:
                element_type = each.value
            elif each.number == _TENSOR_DIMS:
                shape += self._numbers(each)
            elif each.number == _TENSOR_RAW:
                raw = each.content
        return Tensor(name, element_type, tuple(shape), raw, tensor)

    def _numbers(self, each: Field) -> list[int]:
        """Of a repeated field, which may be packed."""
        if each.wire_type == VARINT:
            return [signed(each.value)]
        return packed(self.data, each.content)

    def _name(self, value_info: Field) -> str:
        for each in fields(self.data, value_info.content):
            if each.number == _VALUE_NAME:
                return self._text(each.content)
        return ""

    def _text(self, content: Place) -> str:
        return str(content.of(self.data), "utf-8", "replace")


def encoded_node(
    operator: str, domain: str, inputs: tuple[str, ...], output: str, numbers: Mapping[str, int]
) -> bytes:
    """A node as ``Graph.edited`` takes it, with attributes that are numbers."""
    attributes = (
        encoded(_ATTRIBUTE_NAME, key)
        + encoded_integer(_ATTRIBUTE_INT, value)
        + encoded_integer(_ATTRIBUTE_KIND, _KIND_INT)
        for key, value in numbers.items()
    )
    node = b"".join(
        (
            *(encoded(_NODE_INPUT, each) for each in inputs),
            encoded(_NODE_OUTPUT, output),
            encoded(_NODE_TYPE, operator),
            encoded(_NODE_DOMAIN, domain),
            *(encoded(_NODE_ATTRIBUTE, each) for each in attributes),
        )
    )
    return encoded(_GRAPH_NODE, node)


def _external(tensor: Tensor, file_name: str) -> bytes | None:
    """The tensor without its values, named by their place; None where it stays as it is."""
    raw = tensor.raw
    if raw is None or raw.length < _LEAST_EXTERNAL:
        return None
    places = {"location": file_name, "offset": str(raw.start), "length": str(raw.length)}
    written = b"".join(
        (
            *(encoded_integer(_TENSOR_DIMS, each) for each in tensor.shape),
            encoded_integer(_TENSOR_TYPE, tensor.element_type),
            encoded(_TENSOR_NAME, tensor.name),
            *(
                encoded(_TENSOR_EXTERNAL, encoded(_ENTRY_KEY, key) + encoded(_ENTRY_VALUE, value))
                for key, value in places.items()
            ),
            encoded_integer(_TENSOR_LOCATION, _LOCATION_EXTERNAL),
        )
    )
    return encoded(_GRAPH_INITIALIZER, written)
