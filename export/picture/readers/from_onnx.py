"""Reads the network of an ONNX file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError

from d2serve.export.errors import ProgramError, one_line
from d2serve.export.picture.operations import Flow, Shape, Side
from d2serve.export.picture.readers.nodes import Node, Values, flow_of_nodes, scope_of

_FLOATS = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16)


def from_onnx(file: Path) -> Flow:
    """The operations of an ONNX file, with what it says of shapes.

    Raises:
        ProgramError: it is no ONNX file, or damaged.
    """
    try:
        # Weights that lie in files beside it are not needed: their sizes stand in the file.
        program = onnx.load(str(file), load_external_data=False)
    except (DecodeError, ValueError) as error:
        raise _no_onnx(file, one_line(error, 120)) from error
    if not program.graph.node or not program.opset_import:
        raise _no_onnx(file, "it has no operators")
    try:
        graph = onnx.shape_inference.infer_shapes(program).graph
    except Exception:  # it raises its own for what the checker would refuse
        graph = program.graph
    weights = {
        each.name: tuple(each.dims)
        for each in graph.initializer
        if each.data_type in _FLOATS and each.dims
    }
    values = (*graph.input, *graph.value_info, *graph.output)
    shapes = {each.name: shape for each in values for shape in _shape(each)}
    given = {each.name for each in graph.initializer}
    return flow_of_nodes(
        [_node(each) for each in graph.node],
        Values(shapes, weights),
        [each.name for each in graph.input if each.name not in given],
        [each.name for each in graph.output],
    )


def _no_onnx(file: Path, why: str) -> ProgramError:
    return ProgramError(
        f"{file} is no ONNX file, or damaged ({why}). Expected one that torch.onnx or `d2serve "
        "export --format onnx` wrote: make it again, or copy it again."
    )


def _node(node: onnx.NodeProto) -> Node:
    return Node(
        scope=scope_of(node.name) if "/" in node.name else _scope_by_weights(node),
        kind=node.op_type,
        inputs=(*node.input, *_taken_within(node)),
        outputs=tuple(node.output),
        is_transposed=any(each.name == "transB" and each.i for each in node.attribute),
    )


def _scope_by_weights(node: onnx.NodeProto) -> tuple[str, ...]:
    """The module of a node by the name of its weight, ``backbone.stem.conv1.weight``."""
    for name in node.input:
        if name.endswith((".weight", ".bias")):
            return tuple(name.split(".")[:-1])
    return ()


def _taken_within(node: onnx.NodeProto) -> Iterator[str]:
    """Values that the branches of a node take from around it."""
    for attribute in node.attribute:
        if attribute.type == onnx.AttributeProto.GRAPH:
            for inner in attribute.g.node:
                yield from inner.input


def _shape(value: onnx.ValueInfoProto) -> Iterator[Shape]:
    if value.type.HasField("tensor_type") and value.type.tensor_type.HasField("shape"):
        yield tuple(
            Side(side.dim_value) if side.HasField("dim_value") else Side(None, True)
            for side in value.type.tensor_type.shape.dim
        )
