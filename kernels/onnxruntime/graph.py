"""The graph of an ONNX file: what its nodes and its constants are.

It is read as bytes: a worker needs no ``onnx`` package, and what nobody understands here is only
passed over. The fields: onnx.proto, whose numbers never change.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Union

import numpy as np
import numpy.typing as npt

from d2serve.kernels.onnxruntime.protobuf import (
    FIXED32,
    VARINT,
    Field,
    Place,
    WireError,
    fields,
    packed,
    signed,
)

# Messages' fields, by the messages' names in onnx.proto; editing.py writes some, too.
MODEL_GRAPH = 7
GRAPH_NODE, GRAPH_INITIALIZER = 1, 5
NODE_INPUT, NODE_OUTPUT, NODE_TYPE, NODE_ATTRIBUTE, NODE_DOMAIN = 1, 2, 4, 5, 7
ATTRIBUTE_NAME, ATTRIBUTE_INT = 1, 3
TENSOR_DIMS, TENSOR_TYPE, TENSOR_NAME = 1, 2, 8
_GRAPH_INPUT, _GRAPH_OUTPUT = 11, 12
_VALUE_NAME = 1
_ATTRIBUTE_FLOAT, _ATTRIBUTE_TEXT, _ATTRIBUTE_TENSOR, _ATTRIBUTE_GRAPH = 2, 4, 5, 6
_ATTRIBUTE_INTS, _ATTRIBUTE_GRAPHS = 8, 11
_TENSOR_RAW = 9

FLOAT = 1
"""The element type float32."""

_STANDARD = ("", "ai.onnx")


@dataclass(frozen=True)
class Tensor:
    """A constant of the graph, or of a node."""

    name: str
    element_type: int
    shape: tuple[int, ...]
    raw: Place | None
    """Where its values lie as they are in memory; None where they are kept in another way."""
    whole: Place


Attribute = Union[int, float, str, tuple[int, ...], Tensor]  # not |: Python 3.9 evaluates it


@dataclass(frozen=True)
class Node:
    """One operation of the graph."""

    operator: str
    domain: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Attribute]
    """Numbers, text and tensors; others are left out."""

    def is_standard(self, operator: str) -> bool:
        """Whether it is this operator of ONNX's own."""
        return self.operator == operator and self.domain in _STANDARD


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
    _makers: dict[str, int] = field(default_factory=dict)
    _takers: dict[str, int] = field(default_factory=dict)

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
            if each.number == MODEL_GRAPH:
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

    def maker(self, name: str) -> Node | None:
        """The node that makes a value; None where it is an input or a constant."""
        index = self._makers.get(name)
        return None if index is None else self.nodes[index]

    def only_taker(self, index: int, operator: str) -> int | None:
        """The node that alone takes what a node gives, where it is this operator of ONNX's own."""
        result = self.nodes[index].outputs[0]
        taker = self._takers.get(result) if self.uses[result] == 1 else None
        fits = taker is not None and self.nodes[taker].is_standard(operator)
        return taker if fits else None

    def constant(self, name: str) -> str:
        """The constant that a value is, if it is one: exporters name equal ones by Identity."""
        while (maker := self.maker(name)) is not None and maker.is_standard("Identity"):
            name = maker.inputs[0]
        return name

    def _read(self, graph: Place) -> None:
        for each in fields(self.data, graph):
            if each.number == GRAPH_NODE:
                node = self._node(each.content)
                self._makers.update(dict.fromkeys(node.outputs, len(self.nodes)))
                self._takers.update(dict.fromkeys(node.inputs, len(self.nodes)))
                self.nodes.append(node)
            elif each.number == GRAPH_INITIALIZER:
                tensor = self._tensor(each.content)
                if tensor.name in self.tensors:
                    raise WireError(f"two constants have the name {tensor.name}")
                self.tensors[tensor.name] = tensor
            elif each.number == _GRAPH_INPUT:
                self.given.add(self._name(each))
            elif each.number == _GRAPH_OUTPUT:
                self.uses[self._name(each)] += 1

    def _node(self, node: Place) -> Node:
        text = {NODE_TYPE: "", NODE_DOMAIN: ""}
        inputs: list[str] = []
        outputs: list[str] = []
        attributes: dict[str, Attribute] = {}
        for each in fields(self.data, node):
            if each.number == NODE_INPUT:
                inputs.append(self._text(each.content))
            elif each.number == NODE_OUTPUT:
                outputs.append(self._text(each.content))
            elif each.number == NODE_ATTRIBUTE:
                attributes.update(self._attribute(each.content))
            elif each.number in text:
                text[each.number] = self._text(each.content)
        self.uses.update(inputs)
        return Node(text[NODE_TYPE], text[NODE_DOMAIN], tuple(inputs), tuple(outputs), attributes)

    def _attribute(self, attribute: Place) -> Iterator[tuple[str, Attribute]]:
        name = ""
        value: Attribute | None = None
        numbers: list[int] = []
        for each in fields(self.data, attribute):
            if each.number == ATTRIBUTE_NAME:
                name = self._text(each.content)
            elif each.number == ATTRIBUTE_INT:
                value = signed(each.value)
            elif each.number == _ATTRIBUTE_FLOAT and each.wire_type == FIXED32:
                (value,) = struct.unpack("<f", each.content.of(self.data))
            elif each.number == _ATTRIBUTE_TENSOR:
                value = self._tensor(each.content)
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
            if each.number == GRAPH_NODE:
                self._node(each.content)
            elif each.number == _GRAPH_OUTPUT:
                self.uses[self._name(each)] += 1

    def _tensor(self, tensor: Place) -> Tensor:
        name, element_type, raw = "", 0, None
        shape: list[int] = []
        for each in fields(self.data, tensor):
            if each.number == TENSOR_NAME:
                name = self._text(each.content)
            elif each.number == TENSOR_TYPE:
                element_type = each.value
            elif each.number == TENSOR_DIMS:
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
