"""Reads the network of an OpenVINO file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from d2serve.export.errors import ProgramError, needing, one_line
from d2serve.export.picture.operations import Flow, Shape, Side
from d2serve.export.picture.readers.nodes import Node, Values, flow_of_nodes, scope_of

_PASSING_WEIGHTS = ("Convert", "FakeQuantize", "Multiply", "Subtract", "Reshape")
_ENDS = ("Parameter", "Constant", "Result")


def from_openvino(file: Path) -> Flow:
    """The operations of an .xml file of OpenVINO's, beside which its .bin lies.

    Raises:
        ProgramError: it is no such file, or damaged.
    """
    with needing("openvino", "openvino"):
        import openvino
    try:
        model = openvino.Core().read_model(file)
    except RuntimeError as error:
        raise ProgramError(
            f"{file} is no OpenVINO model, or damaged ({one_line(error, 160)}). Expected a .xml "
            "file with its .bin beside it, as `d2serve export --runtime openvino` writes them."
        ) from error
    nodes, shapes, weights = [], {}, {}
    for each in model.get_ordered_ops():
        kind, name = each.get_type_name(), each.get_friendly_name()
        for output in each.outputs():
            shapes[_name(output)] = _shape(output.get_partial_shape())
        if kind == "Constant":
            if each.get_element_type().is_real() and each.get_output_shape(0):
                weights[_name(each.output(0))] = tuple(each.get_output_shape(0))
        elif kind not in _ENDS:
            inputs = tuple(_name(given.get_source_output()) for given in each.inputs())
            if kind in _PASSING_WEIGHTS and inputs[0] in weights and len(inputs) == 1:
                weights[_name(each.output(0))] = weights.pop(inputs[0])
                continue
            outputs = tuple(map(_name, each.outputs()))
            nodes.append(Node(scope_of(name), kind, inputs, outputs))
    flow = flow_of_nodes(
        _in_breadth(nodes),
        Values(shapes, weights),
        [_name(each.output(0)) for each in model.get_parameters()],
        [_name(each.input(0).get_source_output()) for each in model.get_results()],
    )
    flow.is_scattered = True
    return flow


def _in_breadth(nodes: list[Node]) -> list[Node]:
    """Nodes by how far they are from the beginning: OpenVINO gives them in its own order."""
    depths: dict[str, int] = {}
    depth_of = []
    for node in nodes:
        depth = 1 + max((depths.get(name, 0) for name in node.inputs), default=0)
        depths.update(dict.fromkeys(node.outputs, depth))
        depth_of.append(depth)
    order = sorted(range(len(nodes)), key=depth_of.__getitem__)
    return [nodes[place] for place in order]


def _name(output: Any) -> str:
    """Of an output of a node: its own where it has one, as what comes in and goes out has."""
    node = output.get_node()
    names = sorted(output.get_names())
    kind = node.get_type_name()
    if names and (kind == "Parameter" or _is_result(output)):
        return str(names[0])
    return f"{node.get_friendly_name()}:{output.get_index()}"


def _is_result(output: Any) -> bool:
    return any(each.get_node().get_type_name() == "Result" for each in output.get_target_inputs())


def _shape(shape: Any) -> Shape:
    if shape.rank.is_dynamic:
        return (Side(None, True),)
    return tuple(Side(None, True) if side.is_dynamic else Side(side.get_length()) for side in shape)
