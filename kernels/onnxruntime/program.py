"""Gives ONNX Runtime our operators: what fits of a program is replaced while it loads.

The program's file stays as it is. What is loaded is an edited copy of its graph, in memory, in
which a convolution of 3x3 and the ReLU after it are one operator of the native library, and so are
a 1x1 convolution with its sum and ReLU, and RoiAlign. Weights that only such convolutions use are
left out of it, and the other ones are mapped from the file.
"""

from __future__ import annotations

import mmap
from pathlib import Path
from typing import Any

from d2serve.kernels.choosing import is_fast, pays
from d2serve.kernels.library import KernelsError, library
from d2serve.kernels.onnxruntime.convolutions import Found, fitting
from d2serve.kernels.onnxruntime.deconvolutions import Deconvolution, deconvolutions
from d2serve.kernels.onnxruntime.editing import NewNode, edited
from d2serve.kernels.onnxruntime.graph import Graph
from d2serve.kernels.onnxruntime.layers import Layers
from d2serve.kernels.onnxruntime.roi_align import RoiAligns, roi_aligns

# As kernels/native/onnxruntime registers them.
_DOMAIN = "d2serve"
_CONVOLUTION, _POINTWISE = "Convolution", "Pointwise"
_DECONVOLUTION, _ROI_ALIGN = "Deconvolution", "RoiAlign"
_FOLDER_OF_TENSORS = "session.model_external_initializers_file_folder_path"


class WinogradProgram:
    """A program with our convolutions and RoiAlign, which all its sessions share."""

    def __init__(
        self,
        program: Path,
        beside: Path | None,
        *,
        where_it_pays: bool,
        maps_tensors: bool = True,
    ) -> None:
        """
        Args:
            program: an ONNX file, which must not change.
            beside: where transformed weights are shared, see ``transformed``.
            where_it_pays: leave out those that are no faster, or not by as much as they take
                memory.
            maps_tensors: whether this ONNX Runtime finds tensors of a program that it is given in
                memory; otherwise they are copied into it.
        """
        self._program = program
        self._maps_tensors = maps_tensors
        self._where_it_pays = where_it_pays
        self._layers = Layers(beside)
        self._aligns: dict[int, RoiAligns] = {}
        self.convolutions = self.others = 0
        """That are Winograd's in what ``edited`` gave last; 3x3 convolutions in it that are not."""
        self.points = 0
        """1x1 convolutions in it that are ours."""
        self.aligns = 0
        """How often ours is there for RoiAlign, once for all levels of a pyramid."""

    def __str__(self) -> str:
        of = self.convolutions + self.others
        said = [f"Winograd's algorithm in {self.convolutions} of its {of} 3x3 convolutions"]
        if self.points:
            said.append(f"d2serve's own {self.points} of 1x1")
        if self.aligns:
            said.append(f"d2serve's RoiAlign in {self.aligns} places")
        return " and ".join(said)

    def edited(self, options: Any, threads: int) -> bytes:
        """The program with ours. It holds addresses: a session of it must end before this object.

        Args:
            options: ``onnxruntime.SessionOptions`` of the session, which learn what it needs.
            threads: that each convolution takes.

        Raises:
            ValueError: the file is no ONNX file.
        """
        options.register_custom_ops_library(str(_library_path()))
        graph = _read(self._program)
        new = {**self._convolutions(graph, threads), **self._roi_aligns(graph, threads)}
        if not self._maps_tensors:
            return edited(graph, new, None)
        options.add_session_config_entry(_FOLDER_OF_TENSORS, str(self._program.parent))
        return edited(graph, new, self._program.name)

    def _convolutions(self, graph: Graph, threads: int) -> dict[int, NewNode]:
        new: dict[int, NewNode] = {}
        self.others = 0

        def put(operator: str, found: Found | Deconvolution, **layers: int) -> None:
            numbers = {**layers, "threads": threads}
            new[found.last] = NewNode(operator, _DOMAIN, found.inputs, numbers)

        for found in fitting(graph, 3):
            outs, ins = graph.tensors[found.layer.weights].shape[:2]
            if self._where_it_pays and not pays(outs, ins):
                self.others += 1
            else:
                put(_CONVOLUTION, found, layer=self._layers.convolution(found.layer, graph))
        self.convolutions = len(new)
        points = list(fitting(graph, 1))
        for both in deconvolutions(graph, points):
            if not self._where_it_pays or _is_beside(both, graph, new):
                four = self._layers.deconvolution(both.layer, graph)
                then = self._layers.pointwise(both.then.layer, graph)
                put(_DECONVOLUTION, both, layer=four, then=then)
                points.remove(both.then)
        for found in points:
            if not self._where_it_pays or _is_beside(found, graph, new):
                put(_POINTWISE, found, layer=self._layers.pointwise(found.layer, graph))
        self.points = len(new) - self.convolutions
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


def _is_beside(found: Found | Deconvolution, graph: Graph, new: dict[int, NewNode]) -> bool:
    """Whether ours is before or behind it, whose layout is not ONNX Runtime's own."""
    given = {graph.nodes[index].outputs[0] for index in new}
    taken = {name for node in new.values() for name in node.inputs}
    return graph.nodes[found.last].outputs[0] in taken or not given.isdisjoint(found.inputs)


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
