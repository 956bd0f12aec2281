"""Reads the network of Caffe2's two files."""

from __future__ import annotations

from pathlib import Path

from d2serve.export.errors import ProgramError
from d2serve.export.picture.operations import Flow, Shape, Side
from d2serve.export.picture.readers.nodes import Node, Values, flow_of_nodes
from d2serve.handlers.errors import LoadError
from d2serve.handlers.netdef.files import NET_FILE, WEIGHTS_FILE, read_nets
from d2serve.handlers.netdef.messages import OperatorDef

_FLOATS = ("GivenTensorFill",)
# Modules of what upstream's own files have no names for.
_PROPOSALS, _POOLER, _HEADS = "proposal_generator", "roi_heads.pooler", "roi_heads"
_MODULES = {
    "GenerateProposals": _PROPOSALS,
    "CollectRpnProposals": _PROPOSALS,
    "DistributeFpnProposals": _POOLER,
    "RoIAlign": _POOLER,
    "RoIAlignRotated": _POOLER,
    "BatchPermutation": _POOLER,
    "BBoxTransform": _HEADS,
    "BoxWithNMSLimit": _HEADS,
}


def from_caffe2(file: Path) -> Flow:
    """The operations of a model.pb, beside which its model_init.pb lies.

    Shapes are not in these files.

    Raises:
        ProgramError: they are not Caffe2's, or damaged.
    """
    if file.name != NET_FILE:
        raise ProgramError(
            f"{file}: Caffe2's network is called {NET_FILE}, and {WEIGHTS_FILE} with its weights "
            "lies beside it. Give the folder's own model.pb. Networks of TensorFlow are not drawn."
        )
    try:
        net, fills = read_nets(file.parent)
    except LoadError as error:
        raise ProgramError(str(error)) from error
    weights = {fill.output[0]: _sizes(fill) for fill in fills.op if fill.type in _FLOATS}
    learned = {name: sizes for name, sizes in weights.items() if sizes}
    given = {name for fill in fills.op for name in fill.output}
    shapes: dict[str, Shape] = {}
    for name in net.external_input:
        if name == "data":
            shapes[name] = (Side(None, True), Side(3), Side(None, True), Side(None, True))
    return flow_of_nodes(
        [_node(each, learned) for each in net.op],
        Values(shapes, learned),
        [name for name in net.external_input if name not in given],
        list(net.external_output),
    )


def _node(operator: OperatorDef, weights: dict[str, tuple[int, ...]]) -> Node:
    named = (name.rpartition(".")[0] for name in operator.input if name in weights)
    path = operator.name or _MODULES.get(operator.type or "") or next(filter(None, named), "")
    return Node(
        scope=tuple(path.split(".")) if path else (),
        kind=operator.type or "",
        inputs=operator.input,
        outputs=operator.output,
        is_transposed=operator.type == "FC",
    )


def _sizes(fill: OperatorDef) -> tuple[int, ...]:
    return next((each.ints for each in fill.arg if each.name == "shape"), ())
