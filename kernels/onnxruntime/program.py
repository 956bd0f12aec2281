"""Gives ONNX Runtime our operators: what fits of a program is replaced while it loads.

The program's file stays as it is. What is loaded is an edited copy of its graph, in memory, in
which a convolution of 3x3 and the ReLU after it are one operator of the native library, and so is
RoiAlign. Weights that only such convolutions use are left out of it, and the other ones are mapped
from the file.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from d2serve.kernels.choosing import is_fast, pays
from d2serve.kernels.library import KernelsError, library
from d2serve.kernels.onnxruntime.editing import NewNode, edited
from d2serve.kernels.onnxruntime.graph import Graph, Node
from d2serve.kernels.onnxruntime.roi_align import RoiAligns, roi_aligns
from d2serve.kernels.weights import transformed
from d2serve.kernels.winograd import Convolution

# As kernels/native/onnxruntime registers them.
_DOMAIN, _CONVOLUTION, _ROI_ALIGN = "d2serve", "Convolution", "RoiAlign"
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

    last: int
    """The index of the node whose result is the replacement's."""
    images: str
    weights: str
    bias: str
    relu: bool


class WinogradProgram:
    """A program with our convolutions and RoiAlign, which all its sessions share."""

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
        self._aligns: dict[int, RoiAligns] = {}
        self.convolutions = self.others = 0
        """That are Winograd's in what ``edited`` gave last; 3x3 convolutions in it that are not."""
        self.aligns = 0
        """How often ours is there for RoiAlign, once for all levels of a pyramid."""

    def __str__(self) -> str:
        of = self.convolutions + self.others
        said = f"Winograd's algorithm in {self.convolutions} of its {of} 3x3 convolutions"
        return f"{said} and d2serve's RoiAlign in {self.aligns} places" if self.aligns else said

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
        graph = _read(self._program)
        new = {**self._convolutions(graph, threads), **self._roi_aligns(graph, threads)}
        return edited(graph, new, self._program.name)

    def _convolutions(self, graph: Graph, threads: int) -> dict[int, NewNode]:
        new: dict[int, NewNode] = {}
        self.others = 0
        for found in _fitting(graph):
            convolution = self._convolution(graph, found)
            if convolution is None:
                self.others += 1
                continue
            numbers = {"layer": convolution.address, "threads": threads}
            new[found.last] = NewNode(_CONVOLUTION, _DOMAIN, (found.images,), numbers)
        self.convolutions = len(new)
        return new

    def _roi_aligns(self, graph: Graph, threads: int) -> dict[int, NewNode]:
        if not self._where_it_pays or is_fast():
            # The structures of an earlier session are its own, whose addresses it may still have.
            for found in roi_aligns(graph):
                self._aligns.setdefault(found.last, found)
        self.aligns = len(self._aligns)
        return {
            each.last: NewNode(
                _ROI_ALIGN, _DOMAIN, each.inputs, {**each.numbers, "threads": threads}
            )
            for each in self._aligns.values()
        }

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


def mapped(program: Path, options: Any) -> bytes:
    """A program as it is, but that its large tensors are mapped from its file.

    Args:
        program: an ONNX file, which must not change.
        options: ``onnxruntime.SessionOptions`` of the session, which learn what it needs.

    Raises:
        ValueError: the file is no ONNX file.
    """
    options.add_session_config_entry(_FOLDER_OF_TENSORS, str(program.parent))
    return edited(_read(program), {}, program.name)


def _read(program: Path) -> Graph:
    with program.open("rb") as file:
        return Graph.read(memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)))


def _library_path() -> Path:
    found = library()
    if found is None:
        raise KernelsError("The native kernels are not installed.")
    return found.path


def _fitting(graph: Graph) -> Iterator[_Found]:
    takers = {name: index for index, each in enumerate(graph.nodes) for name in each.inputs}

    def constant(name: str) -> str:
        """The constant that a value is, if it is one: exporters name equal ones by Identity."""
        while (maker := graph.maker(name)) is not None and maker.is_standard("Identity"):
            name = maker.inputs[0]
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
        if relu is not None and graph.nodes[relu].is_standard("Relu"):
            yield _Found(relu, node.inputs[0], weights, bias, True)
        else:
            yield _Found(index, node.inputs[0], weights, bias, False)


def _is_plain(node: Node) -> bool:
    """Whether it is a convolution of 3x3, one step at a time, whose result has its input's size."""
    return node.is_standard("Conv") and all(
        node.attributes.get(name) in fitting for name, fitting in _FITTING.items()
    )
