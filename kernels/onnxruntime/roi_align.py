"""Finds RoiAlign in an ONNX program, where it pools one image or a pyramid of them.

An exported pyramid has a RoiAlign for each level, and puts the results into one tensor by a chain
of ScatterND, each of which copies all of it. Ours writes each result into its place.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from d2serve.kernels.library import number_of
from d2serve.kernels.onnxruntime.graph import FLOAT, Attribute, Graph, Node, Tensor

_HALF_PIXEL, _WHOLE_PIXEL = "half_pixel", "output_half_pixel"
# As the native code takes them.
_MOST_BINS, _MOST_SAMPLES = 1024, 1024


class _How(ctypes.Structure):
    """``d2k_roi_align``."""

    _fields_ = (
        ("height", ctypes.c_int64),
        ("width", ctypes.c_int64),
        ("sampling_ratio", ctypes.c_int64),
        ("scale", ctypes.c_float),
        ("half_pixel", ctypes.c_int32),
        ("way", ctypes.c_int32),
    )


@dataclass(frozen=True)
class RoiAligns:
    """RoiAlign of one level or more, which the operator of the native library can do."""

    last: int
    """The index of the node whose result is the operator's."""
    inputs: tuple[str, ...]
    levels: ctypes.Array[_How] = field(repr=False)

    @property
    def numbers(self) -> Mapping[str, int]:
        """The operator's attributes. They hold an address, so this object must outlive it."""
        return {"address": ctypes.addressof(self.levels), "levels": len(self.levels)}


def roi_aligns(graph: Graph) -> Iterator[RoiAligns]:
    """All that fit, a pyramid's as one."""
    in_pyramids: set[str] = set()
    scatters = [i for i, node in enumerate(graph.nodes) if node.is_standard("ScatterND")]
    below = {graph.nodes[index].inputs[0] for index in scatters}
    for index in scatters:
        if graph.nodes[index].outputs[0] in below:
            continue  # A part of a chain, whose last one is yet to come.
        if found := _pyramid(graph, index):
            levels, inputs = found
            in_pyramids.update(level.outputs[0] for level in levels)
            yield _made(index, levels, inputs)
    for index, node in enumerate(graph.nodes):
        if _fits(node) and node.outputs[0] not in in_pyramids:
            yield _made(index, [node], node.inputs)


def _pyramid(graph: Graph, last: int) -> tuple[list[Node], tuple[str, ...]] | None:
    """The levels whose results a chain of ScatterND puts into a tensor of zeros, and what ours
    takes of them. That each result is a row of the tensor it sees itself, when it runs."""
    levels: list[Node] = []
    inputs: list[str] = []
    scatter: Node | None = graph.nodes[last]
    while scatter is not None and scatter.is_standard("ScatterND"):
        if scatter.attributes.get("reduction", "none") != "none":
            return None
        reshape = graph.maker(scatter.inputs[2])
        if reshape is None or not reshape.is_standard("Reshape"):
            return None
        level = graph.maker(reshape.inputs[0])
        if level is None or not _fits(level):
            return None
        levels.insert(0, level)
        inputs[:0] = (*level.inputs, scatter.inputs[1])
        scatter = graph.maker(scatter.inputs[0])
    if scatter is None or not _makes_zeros(graph, scatter) or len(levels) < 2:
        return None
    if len({_bins(level) for level in levels}) > 1:
        return None
    return levels, (*inputs, scatter.inputs[0])


def _makes_zeros(graph: Graph, node: Node) -> bool:
    value = node.attributes.get("value")
    if not node.is_standard("ConstantOfShape"):
        return False
    if not isinstance(value, Tensor):
        return value is None
    is_kept = value.raw is not None and value.element_type == FLOAT
    return is_kept and value.raw is not None and not any(value.raw.of(graph.data))


def _bins(node: Node) -> tuple[Attribute, Attribute]:
    return node.attributes.get("output_height", 1), node.attributes.get("output_width", 1)


def _fits(node: Node) -> bool:
    # Without it, what it is depends on the version of the operators.
    pixels = node.attributes.get("coordinate_transformation_mode")
    samples = node.attributes.get("sampling_ratio", 0)
    return (
        node.is_standard("RoiAlign")
        and node.attributes.get("mode", "avg") == "avg"
        and pixels in (_HALF_PIXEL, _WHOLE_PIXEL)
        and isinstance(samples, int)
        and 0 <= samples <= _MOST_SAMPLES
        and all(isinstance(each, int) and 1 <= each <= _MOST_BINS for each in _bins(node))
    )


def _made(last: int, levels: list[Node], inputs: tuple[str, ...]) -> RoiAligns:
    hows = (_How * len(levels))()
    for how, level in zip(hows, levels):
        how.height, how.width = _bins(level)
        how.sampling_ratio = level.attributes.get("sampling_ratio", 0)
        how.scale = level.attributes.get("spatial_scale", 1.0)
        how.half_pixel = level.attributes["coordinate_transformation_mode"] == _HALF_PIXEL
        how.way = number_of(None)
    return RoiAligns(last, inputs, hows)
