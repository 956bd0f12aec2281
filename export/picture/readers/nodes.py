"""Makes operations of the nodes of a file: finds the module of each, counts what it multiplies.

Files of ONNX, OpenVINO and Caffe2 know no modules, but exporters name nodes and weights after them.
A node without a name goes with the one whose result it takes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod

from d2serve.export.picture.operations import INPUT, OUTPUT, Flow, Operation, Shape
from d2serve.export.picture.readers.multiply_adds import (
    convolution,
    matrix_product,
    transposed_convolution,
)

_WRAPPERS = ("model", "_wrapped_model", "module")
_UNNAMED = "layers"
_CONVOLUTIONS = ("Conv", "Convolution", "GroupConvolution", "DeformConv")
_TRANSPOSED = ("ConvTranspose", "ConvolutionBackpropData", "GroupConvolutionBackpropData")
_FULLY_CONNECTED = ("Gemm", "FC")
MULTIPLYING = (*_CONVOLUTIONS, *_TRANSPOSED, *_FULLY_CONNECTED, "MatMul")
"""The kinds of nodes that multiply by weights."""
_NORMS = (
    *("BatchNormalization", "LayerNormalization", "GroupNormalization", "InstanceNormalization"),
    *("GroupNorm", "MVN", "BatchNormInference", "SpatialBN", "PRelu"),
)
_LEARNED = frozenset((*MULTIPLYING, *_NORMS))
_THEIR_BIAS = ("Add", "Mul", "Multiply", "Reshape", "Transpose")


@dataclass(frozen=True)
class Node:
    """A node of a file's graph."""

    scope: tuple[str, ...]
    """Names of the modules that it is in, as the file has them; empty where it has none."""
    kind: str
    inputs: tuple[str, ...]
    """Names of values, weights among them."""
    outputs: tuple[str, ...]
    is_transposed: bool = False
    """Whether a matrix product's second factor is (out, in)."""


@dataclass(frozen=True)
class Values:
    """What a file says of its values, by name."""

    shapes: Mapping[str, Shape]
    weights: Mapping[str, tuple[int, ...]]
    """The sizes of the learned ones."""


def flow_of_nodes(
    nodes: Sequence[Node], values: Values, inputs: Sequence[str], outputs: Sequence[str]
) -> Flow:
    """A file's graph as operations.

    Args:
        nodes: in an order in which they can run.
        values: their shapes, and which are weights.
        inputs, outputs: names of values.
    """
    operations: list[Operation] = []
    made: dict[str, int] = {}
    for name in inputs:
        made[name] = len(operations)
        operations.append(Operation("", 0, INPUT, (), values.shapes.get(name), name=name))
    weights: dict[str, int] = {}
    counted: set[str] = set()
    learned: set[int] = set()
    for node, path in _placed(nodes, values, inputs):
        makers = tuple(sorted({made[name] for name in node.inputs if name in made}))
        shape = next((values.shapes[name] for name in node.outputs if name in values.shapes), None)
        operations.append(
            Operation(
                path,
                _step(path, [operations[maker] for maker in makers]),
                node.kind,
                makers,
                shape,
                _multiply_adds(node, values, shape),
                shape[0].size if shape else None,
            )
        )
        place = len(operations) - 1
        made.update(dict.fromkeys(node.outputs, place))
        follows = node.kind in _THEIR_BIAS and not learned.isdisjoint(makers)
        if node.kind in _LEARNED or follows:
            learned.add(place)
            for name in node.inputs:
                if name in values.weights and name not in counted:
                    counted.add(name)
                    weights[path] = weights.get(path, 0) + prod(values.weights[name])
    for name in outputs:
        if name in made:
            shape = values.shapes.get(name)
            operations.append(Operation("", 0, OUTPUT, (made[name],), shape, name=name))
    return Flow(operations, weights, {})


def _step(path: str, makers: Sequence[Operation]) -> int:
    """How often what an operation goes on with has left the root for a module."""
    return max((each.step + (path != "" and each.path == "") for each in makers), default=0)


def _placed(
    nodes: Sequence[Node], values: Values, inputs: Sequence[str]
) -> Iterator[tuple[Node, str]]:
    """Each node with the path of its module."""
    paths = _paths(nodes)
    made = dict.fromkeys(inputs, (-1, ""))  # when, and in which module
    unnamed = 0
    for place, node in enumerate(nodes):
        given = [made[name] for name in node.inputs if name in made]
        path = paths.get(node.scope)
        if path is None:
            _when, path = max(given, default=(-1, ""))
            is_learned = any(name in values.weights for name in node.inputs)
            if node.kind in MULTIPLYING and is_learned and path.partition(".")[0] in ("", _UNNAMED):
                path = f"{_UNNAMED}.{unnamed}"
                unnamed += 1
        if given:
            made.update(dict.fromkeys(node.outputs, (place, path)))
        yield node, path


def _paths(nodes: Sequence[Node]) -> dict[tuple[str, ...], str]:
    """The path of the module of each scope: without wrappers, and once for a module that runs
    several times, of which exporters number the names (``pooler``, ``pooler_1``)."""
    scopes = {node.scope for node in nodes if node.scope}
    known = {scope[:length] for scope in scopes for length in range(1, len(scope) + 1)}
    found = {}
    for scope in scopes:
        names: list[str] = []
        for place, name in enumerate(scope):
            base, _line, number = name.rpartition("_")
            again = number.isdecimal() and (*scope[:place], base) in known
            names.append(base if again else name)
        found[scope] = ".".join(names[1:] if names[0] in _WRAPPERS else names)
    return found


def _multiply_adds(node: Node, values: Values, shape: Shape | None) -> int | None:
    """Of one node; None where they depend on sides that are not known."""
    if node.kind not in MULTIPLYING:
        return 0
    sizes = None if shape is None else _known(shape)
    first = values.shapes.get(node.inputs[0])
    weight = next(
        (values.weights[name] for name in node.inputs[1:] if name in values.weights), None
    )
    if node.kind in _TRANSPOSED:
        given = None if first is None else _known(first)
        return None if given is None or weight is None else transposed_convolution(given, weight)
    if sizes is None:
        return None
    if node.kind in _CONVOLUTIONS:
        return None if weight is None else convolution(sizes, weight)
    if weight is not None and node.kind in _FULLY_CONNECTED:
        return matrix_product(sizes, weight[1] if node.is_transposed else weight[0])
    inner = first[-1].size if first else None
    return None if inner is None else matrix_product(sizes, inner)


def _known(shape: Shape) -> tuple[int, ...] | None:
    sizes = tuple(side.size for side in shape)
    return None if None in sizes else tuple(size or 0 for size in sizes)


def scope_of(name: str) -> tuple[str, ...]:
    """The modules in the name that torch's ONNX exporter gives a node.

    ``/model/res2/res2.0/conv1/Conv`` is in ``model``, ``res2``, ``0``, ``conv1``.
    """
    names: list[str] = []
    before = ""
    for part in name.strip("/").split("/")[:-1]:
        inner = part[len(before) + 1 :] if before and part.startswith(f"{before}.") else part
        names += inner.split(".")
        before = part
    return tuple(names)
