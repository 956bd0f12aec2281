"""Makes programs that run their network in bf16 and their arithmetic on boxes in fp32.

In bf16 a box coordinate of 800 pixels is rounded to a multiple of 4, which changes the boxes that
survive suppression. Convolutions and fully connected layers bear bf16, and only they gain from it.
So they and what lies between them run in bf16, and all arithmetic on boxes and scores stays in
fp32. Which operations are which follows from the graph alone, so it works for every family.

OpenVINO runs a whole program in the precision that it is compiled with, except for operations that
are marked. Python can set no such mark, so it is written into the XML of the IR.
"""

from __future__ import annotations

import tempfile
import xml.etree.ElementTree as ET
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import openvino as ov

_WEIGHTED = frozenset({"Convolution", "GroupConvolution", "ConvolutionBackpropData", "MatMul"})
# What a network has from one weighted layer to the next.
_BETWEEN = frozenset(
    {"Add", "AvgPool", "Clamp", "Concat", "Elu", "Gelu", "GroupNormalization", "HSigmoid", "HSwish"}
    | {"Interpolate", "MVN", "MaxPool", "Mish", "Multiply", "PRelu", "Pad", "ReduceMean", "Relu"}
    | {"Reshape", "Sigmoid", "Squeeze", "Subtract", "Swish", "Transpose", "Unsqueeze"}
)
# Of these, only the features are of the network: ROIAlign's boxes and its level's indices are not.
# OpenVINO reads ROIAlign's boxes in fp32 whatever its features are, if what makes them is in fp32.
_FEATURES_AT = {"FakeQuantize": (0,), "ROIAlign": (0,), "ScatterNDUpdate": (0, 2)}
_MARK = {"name": "DisablePrecisionConversion", "version": "0", "value": "dynamic:bf16,f16"}
# Types of the IR that hold no number which could lose precision.
_UNMARKED = frozenset({"Const", "Parameter", "Result"})


@dataclass(frozen=True)
class Layers:
    """The operations of a program, by what a lower precision does to them, by their unique name."""

    weighted: frozenset[str]
    """Convolutions and matrix products with constant weights: where the time goes."""
    between: frozenset[str]
    """Activations, sums, pooling and reshapes on the way from one of those to another."""
    last: frozenset[str]
    """The weighted ones after which arithmetic follows: they give logits, deltas and masks."""
    before_last: frozenset[str]
    """The weighted ones whose output those take."""
    first: frozenset[str]
    """The weighted ones that take no other's output: a detector's stem."""
    arithmetic: frozenset[str]
    """All others: proposals, boxes, scores, top-k, NMS, ROI align, shapes, constants."""


def layers_of(model: ov.Model) -> Layers:
    """Sort a program's operations into its network and its arithmetic on boxes.

    An operation is of the network when it has constant weights, or when it is element-wise or the
    like and lies between two that have, with nothing but such operations on the way.
    """
    nodes = list(model.get_ordered_ops())
    constant = _constants(nodes)
    varying = [node for node in nodes if _name(node) not in constant]
    weighted = {
        _name(node)
        for node in varying
        if node.get_type_name() in _WEIGHTED and constant & set(_sources(node))
    }
    passing = {
        _name(node)
        for node in varying
        if node.get_type_name() in _BETWEEN or node.get_type_name() in _FEATURES_AT
    }
    sources = {_name(node): _features(node) for node in varying}
    consumers: dict[str, list[str]] = {name: [] for name in sources}
    for name, feeding in sources.items():
        for source in feeding:
            if source in consumers:
                consumers[source].append(name)
    between = _reached(weighted, passing, consumers) & _reached(weighted, passing, sources)
    network = weighted | between
    last = frozenset(name for name in weighted if network.isdisjoint(consumers[name]))
    return Layers(
        weighted=frozenset(weighted),
        between=frozenset(between),
        last=last,
        before_last=frozenset(_nearest(last, weighted, passing, sources)),
        first=frozenset(n for n in weighted if not _nearest({n}, weighted, passing, sources)),
        arithmetic=frozenset(_name(node) for node in nodes) - network,
    )


def to_bf16(model: ov.Model) -> ov.Model:
    """A program that runs its network in bf16, when compiled so, and its arithmetic in fp32.

    Compiled with ``INFERENCE_PRECISION_HINT`` ``f32`` it computes what ``model`` does.

    Args:
        model: any detectron2 model; it is left as it is.
    """
    layers = layers_of(model)
    return _marked(model, layers.arithmetic | layers.last)


def _name(node: ov.Node) -> str:
    name: str = node.get_friendly_name()
    return name


def _sources(node: ov.Node) -> list[str]:
    return [_name(value.get_node()) for value in node.input_values()]


def _features(node: ov.Node) -> list[str]:
    sources = _sources(node)
    return [sources[port] for port in _FEATURES_AT.get(node.get_type_name(), range(len(sources)))]


def _constants(nodes: Iterable[ov.Node]) -> set[str]:
    """Names of constants and of all that is computed from constants alone."""
    found: set[str] = set()
    for node in nodes:
        inputs = _sources(node)
        if node.get_type_name() == "Constant" or (inputs and found.issuperset(inputs)):
            found.add(_name(node))
    return found


def _reached(starts: set[str], passing: set[str], neighbours: dict[str, list[str]]) -> set[str]:
    """Operations of ``passing`` reached from ``starts`` over such operations only."""
    found: set[str] = set()
    waiting = list(starts)
    while waiting:
        for name in neighbours.get(waiting.pop(), ()):
            if name in passing and name not in found:
                found.add(name)
                waiting.append(name)
    return found


def _nearest(
    starts: Iterable[str],
    weighted: set[str],
    passing: set[str],
    neighbours: dict[str, list[str]],
) -> set[str]:
    """The weighted operations next to ``starts``, with none between."""
    starts = set(starts)
    over = starts | _reached(starts, passing, neighbours)
    return {near for name in over for near in neighbours.get(name, ()) if near in weighted}


def _marked(model: ov.Model, exact: frozenset[str]) -> ov.Model:
    with tempfile.TemporaryDirectory(prefix="d2serve-precision-") as folder:
        xml = Path(folder, "program.xml")
        ov.serialize(model, xml)
        tree = ET.parse(xml)
        for layer in tree.iterfind("./layers/layer"):
            if layer.get("name") in exact and layer.get("type") not in _UNMARKED:
                _mark(layer)
        # Bodies of If and Loop hold no network: NMS and its like.
        for layer in tree.iterfind(".//body//layer"):
            if layer.get("type") not in _UNMARKED:
                _mark(layer)
        tree.write(xml)
        # Weights are read, not mapped: the folder ends here.
        return ov.Core().read_model(xml, config={"ENABLE_MMAP": False})


def _mark(layer: ET.Element) -> None:
    info = layer.find("rt_info")
    if info is None:
        info = ET.SubElement(layer, "rt_info")
    ET.SubElement(info, "attribute", _MARK)
