"""Tells a program's network from its arithmetic on boxes and scores, by its graph alone.

Convolutions and fully connected layers bear a lower precision, and only they gain from it. Boxes do
not bear it. Which operations are which follows from the graph, so it works for every family.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

import openvino as ov

from d2serve.handlers.spec.output_names import MASKS

_WEIGHTED = frozenset({"Convolution", "GroupConvolution", "ConvolutionBackpropData", "MatMul"})
# What moves numbers to other places and changes none.
_MOVING = frozenset({"Concat", "Pad", "Reshape", "Squeeze", "Transpose", "Unsqueeze"})
# What a network has from one weighted layer to the next.
_BETWEEN = _MOVING | frozenset(
    {"Add", "AvgPool", "Clamp", "Elu", "Gelu", "GroupNormalization", "HSigmoid", "HSwish"}
    | {"Interpolate", "MVN", "MaxPool", "Mish", "Multiply", "PRelu", "ReduceMean", "Relu"}
    | {"Sigmoid", "Subtract", "Swish"}
)
# Of these, only the features are of the network: ROIAlign's boxes and its level's indices are not.
# OpenVINO reads ROIAlign's boxes in fp32 whatever its features are, if what makes them is in fp32.
_FEATURES_AT = {"FakeQuantize": (0,), "ROIAlign": (0,), "ScatterNDUpdate": (0, 2)}


@dataclass(frozen=True)
class Layers:
    """The operations of a program, by what a lower precision does to them, by their unique name."""

    weighted: frozenset[str]
    """Convolutions and matrix products with constant weights: where the time goes."""
    between: frozenset[str]
    """Activations, sums, pooling and reshapes on the way from one of those to another."""
    last: frozenset[str]
    """The weighted ones after which arithmetic follows: they give logits, deltas and masks."""
    answering: frozenset[str]
    """Of these, the ones whose numbers are answered: no proposals, which later layers refine, and
    no masks, of which only is asked on which side of a half they are."""
    before_last: frozenset[str]
    """The weighted ones whose output the last ones take."""
    first: frozenset[str]
    """The weighted ones that take no other's output: a detector's stem."""
    arithmetic: frozenset[str]
    """All others: proposals, boxes, scores, top-k, NMS, shapes, constants."""
    entering: frozenset[str]
    """Of these, what brings an image to the first layers and changes no number, such as padding.
    The first layers would round the numbers a step later."""


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
    moving = {_name(node) for node in varying if node.get_type_name() in _MOVING}
    features = {_name(node): _features(node) for node in varying}
    consumers = _reversed(features)
    between = _reached(weighted, passing, consumers) & _reached(weighted, passing, features)
    network = weighted | between
    last = {name for name in weighted if network.isdisjoint(consumers[name])}
    first = {name for name in weighted if not _nearest({name}, weighted, passing, features)}
    ways_in = _reached(first, moving - network, features)
    return Layers(
        weighted=frozenset(weighted),
        between=frozenset(between),
        last=frozenset(last),
        answering=frozenset(_answering(model, last)),
        before_last=frozenset(_nearest(last, weighted, passing, features)),
        first=frozenset(first),
        arithmetic=frozenset(_name(node) for node in nodes) - network,
        entering=frozenset(n for n in ways_in if network | ways_in >= set(consumers[n])),
    )


def _name(node: ov.Node) -> str:
    name: str = node.get_friendly_name()
    return name


def _sources(node: ov.Node) -> list[str]:
    return [_name(value.get_node()) for value in node.input_values()]


def _features(node: ov.Node) -> list[str]:
    sources = _sources(node)
    return [sources[port] for port in _FEATURES_AT.get(node.get_type_name(), range(len(sources)))]


def _reversed(sources: Mapping[str, Iterable[str]]) -> dict[str, list[str]]:
    consumers: dict[str, list[str]] = {name: [] for name in sources}
    for name, feeding in sources.items():
        for source in feeding:
            if source in consumers:
                consumers[source].append(name)
    return consumers


def _constants(nodes: Iterable[ov.Node]) -> set[str]:
    """Names of constants and of all that is computed from constants alone."""
    found: set[str] = set()
    for node in nodes:
        inputs = _sources(node)
        if node.get_type_name() == "Constant" or (inputs and found.issuperset(inputs)):
            found.add(_name(node))
    return found


def _reached(
    starts: Iterable[str], passing: Collection[str], neighbours: Mapping[str, Iterable[str]]
) -> set[str]:
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
    neighbours: Mapping[str, Iterable[str]],
) -> set[str]:
    """The weighted operations next to ``starts``, with none between."""
    starts = set(starts)
    over = starts | _reached(starts, passing, neighbours)
    return {near for name in over for near in neighbours.get(name, ()) if near in weighted}


def _answering(model: ov.Model, last: set[str]) -> set[str]:
    """Of the last layers, those whose numbers a program's answer has.

    A layer of masks is followed by no other answer. A layer of proposals is followed by layers that
    refine them: of every answer that it is in, so is one of those.
    """
    consumers = _reversed({_name(node): _sources(node) for node in model.get_ordered_ops()})
    answers = {_name(each.get_node()): each.get_names() for each in model.outputs}
    after = {name: _reached({name}, consumers, consumers) for name in last}
    within = {name: answers.keys() & after[name] for name in last}
    later = {name: [within[each] for each in last & after[name]] for name in last}
    return {
        name
        for name in last
        if not within[name] <= set[str]().union(*later[name])
        and not all(MASKS in answers[answer] for answer in within[name])
    }
