"""Gives ONNX Runtime our convolutions: the fitting ones of a program are replaced while it loads.

The program's file stays as it is. What is loaded is an edited copy of its graph, in memory, in
which a convolution of 3x3 and the ReLU after it are one operator of the native library. Weights
that only such convolutions use are left out of it, and the other ones are mapped from the file.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from d2serve.kernels.choosing import pays
from d2serve.kernels.library import Convolution, KernelsError, library
from d2serve.kernels.onnx_graph import Graph, Node, encoded_node
from d2serve.kernels.weights import transformed

# As kernels/native/onnxruntime.cpp registers it.
_DOMAIN, _OPERATOR = "d2serve", "Convolution"
_STANDARD = ("", "ai.onnx")
_FOLDER_OF_TENSORS = "session.model_external_initializers_file_folder_path"
# What an attribute may be; None where it may be left out.
_FITTING: dict[str, tuple[object, ...]] = {
    "kernel_shape": ((3, 3), None),
    "strides": ((1, 1), None),
    "pads": ((1, 1, 1, 1),),
    "dilations": ((1, 1), None),
    "group": (1, None),
    "auto_pad": ("NOTSET", None),
}


@dataclass(frozen=True)
class _Found:
    """A convolution that can be replaced, with the ReLU after it."""

    nodes: tuple[int, ...]
    """Of the graph, by their indices; the last one's result is the replacement's."""
    weights: str
    bias: str
    relu: bool


class WinogradProgram:
    """A program with our convolutions, which all sessions that are made of it share."""

    def __init__(self, program: Path, beside: Path | None, *, where_it_pays: bool) -> None:
        """
        Args:
            program: an ONNX file, which must not change.
            beside: where transformed weights are shared, see ``transformed``.
            where_it_pays: leave out those that are no faster, or not by as much as they take
                memory.
        """
        self._program = program
        self._beside = beside
        self._where_it_pays = where_it_pays
        self._made: dict[tuple[str, str, bool], Convolution] = {}
        self.convolutions = self.others = 0
        """That are Winograd's in what ``edited`` gave last; 3x3 convolutions in it that are not."""

    def __str__(self) -> str:
        of = self.convolutions + self.others
        return f"Winograd's algorithm in {self.convolutions} of its {of} 3x3 convolutions"

    def edited(self, options: Any, threads: int) -> bytes:
        """The program with ours. It holds addresses: a session of it must end before this object.

        Args:
            options: ``onnxruntime.SessionOptions`` of the session, which learn what it needs.
            threads: that each convolution takes.

        Raises:
            ValueError: the file is no ONNX file.
        """
        options.register_custom_ops_library(str(_library_path()))
        options.add_session_config_entry(_FOLDER_OF_TENSORS, str(self._program.parent))
        with self._program.open("rb") as file:
            graph = Graph.read(memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)))
        nodes: dict[int, bytes] = {}
        self.convolutions = self.others = 0
        for found in _fitting(graph):
            convolution = self._convolution(graph, found)
            if convolution is None:
                self.others += 1
                continue
            self.convolutions += 1
            first, last = graph.nodes[found.nodes[0]], graph.nodes[found.nodes[-1]]
            numbers = {"layer": convolution.address, "threads": threads}
            nodes.update(dict.fromkeys(found.nodes, b""))
            nodes[found.nodes[0]] = encoded_node(
                _OPERATOR, _DOMAIN, first.inputs[:1], last.outputs[0], numbers
            )
        return graph.edited(nodes, _DOMAIN, self._program.name)

    def _convolution(self, graph: Graph, found: _Found) -> Convolution | None:
        key = (found.weights, found.bias, found.relu)
        if key not in self._made:
            outs, ins = graph.tensors[found.weights].shape[:2]
            if self._where_it_pays and not pays(outs, ins):
                return None
            # Copies: in the file they lie at any address.
            weights = np.array(graph.floats(found.weights))
            bias = np.array(graph.floats(found.bias)) if found.bias else None
            stored = transformed(weights, self._beside)
            self._made[key] = Convolution.of(weights, bias, found.relu, transformed=stored)
        return self._made[key]


def _library_path() -> Path:
    found = library()
    if found is None:
        raise KernelsError("The native kernels are not installed.")
    return found.path


def _fitting(graph: Graph) -> Iterator[_Found]:
    makers = {name: index for index, each in enumerate(graph.nodes) for name in each.outputs}
    takers = {name: index for index, each in enumerate(graph.nodes) for name in each.inputs}

    def constant(name: str) -> str:
        """The constant that a value is, if it is one: exporters name equal ones by Identity."""
        while name in makers and graph.nodes[makers[name]].operator == "Identity":
            name = graph.nodes[makers[name]].inputs[0]
        return name

    for index, node in enumerate(graph.nodes):
        if not _is_plain(node):
            continue
        weights = constant(node.inputs[1])
        bias = constant(node.inputs[2]) if len(node.inputs) > 2 else ""
        kernel = graph.floats(weights)
        if kernel is None or kernel.shape[2:] != (3, 3):
            continue
        if bias and graph.floats(bias) is None:
            continue
        result = node.outputs[0]
        relu = takers.get(result) if graph.uses[result] == 1 else None
        if relu is not None and _is(graph.nodes[relu], "Relu"):
            yield _Found((index, relu), weights, bias, True)
        else:
            yield _Found((index,), weights, bias, False)


def _is(node: Node, operator: str) -> bool:
    return node.operator == operator and node.domain in _STANDARD


def _is_plain(node: Node) -> bool:
    """Whether it is a convolution of 3x3, one step at a time, whose result has its input's size."""
    return _is(node, "Conv") and all(
        node.attributes.get(name) in fitting for name, fitting in _FITTING.items()
    )
