"""Fits an ONNX program to TensorRT: a branch that holds a suppression is taken for good.

torchvision's NMS branches on whether there are boxes at all. TensorRT allows nothing whose size
depends on data within a branch. The branch for boxes serves for none, too, if the largest
coordinate, which moves classes apart, is taken of the boxes and a zero: clipped boxes have no
coordinate below it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import onnx

from d2serve.export.errors import ProgramError
from d2serve.export.programs.onnx import give_up_defaults

_SUPPRESSION = "NonMaxSuppression"


def fit_to_tensorrt(program: Path) -> None:
    """Rewrite an ONNX file in place.

    Raises:
        ProgramError: it has another branch or loop whose size depends on data.
    """
    proto = onnx.load(program)
    give_up_defaults(proto.graph)
    take_branches(proto.graph)
    left = sorted({n.op_type for n in proto.graph.node if n.op_type in ("If", "Loop", "Scan")})
    if left:
        raise ProgramError(
            f"The program has {', '.join(left)}, in which TensorRT allows nothing that depends on "
            "data. The model probably loops over what it has found; use --runtime onnxruntime."
        )
    onnx.checker.check_model(proto, full_check=True)
    onnx.save(proto, program)


def take_branches(graph: onnx.GraphProto) -> int:
    """Write the branch that suppresses in the place of each If that has one; returns how many."""
    taken = 0
    for index, node in reversed(list(enumerate(graph.node))):
        branch = _suppressing(node)
        if branch is not None:
            graph.node.remove(node)
            for position, made in enumerate(_inlined(node, branch)):
                graph.node.insert(index + position, made)
            taken += 1
    return taken


def _suppressing(node: onnx.NodeProto) -> onnx.GraphProto | None:
    """The branch of an If that suppresses, where the other one answers that nothing is left."""
    if node.op_type != "If":
        return None
    branches = [each.g for each in node.attribute]
    holding = [b for b in branches if any(n.op_type == _SUPPRESSION for n in b.node)]
    others = [b for b in branches if all(n.op_type == "Constant" for n in b.node)]
    return holding[0] if len(holding) == len(others) == 1 else None


def _inlined(node: onnx.NodeProto, branch: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    names: dict[str, str] = {inner.name: outer for inner, outer in zip(branch.output, node.output)}
    own = {output for each in branch.node for output in each.output}
    prefix: str = node.output[0]

    def renamed(name: str) -> str:
        return names.get(name, f"{prefix}/{name}" if name in own else name)

    for each in branch.node:
        made = onnx.NodeProto()
        made.CopyFrom(each)
        made.name = f"{prefix}/{each.name}"
        made.input[:] = [renamed(name) for name in each.input]
        made.output[:] = [renamed(name) for name in each.output]
        if each.op_type == "ReduceMax":
            yield from _with_zero(made)
        else:
            yield made


def _with_zero(largest: onnx.NodeProto) -> Iterator[onnx.NodeProto]:
    """ReduceMax over everything, and over a zero beside it."""
    name, make = largest.output[0], onnx.helper.make_node
    zero = onnx.helper.make_tensor(f"{name}/zero", onnx.TensorProto.FLOAT, [1], [0.0])
    flat = onnx.helper.make_tensor(f"{name}/flat", onnx.TensorProto.INT64, [1], [-1])
    yield make("Constant", [], [f"{name}/0"], value=zero)
    yield make("Constant", [], [f"{name}/-1"], value=flat)
    yield make("Reshape", [largest.input[0], f"{name}/-1"], [f"{name}/all"])
    yield make("Concat", [f"{name}/all", f"{name}/0"], [f"{name}/and_zero"], axis=0)
    largest.input[:] = [f"{name}/and_zero"]
    yield largest
