"""Converts an ONNX program to OpenVINO's format, after mending what OpenVINO misreads.

OpenVINO reads an ONNX file's empty list as the number 0. torchvision's NMS answers "no boxes" with
an empty constant; from 0, an image without detections comes back with one, of garbage read beyond a
tensor's end. The constant is written as an operation that OpenVINO does not misread. It takes
ReduceLogSumExp over all axes, whichever are named; that is written as what it consists of.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import onnx
import openvino as ov

from d2serve.export.errors import ProgramError, one_line
from d2serve.export.programs.onnx import give_up_defaults
from d2serve.handlers.spec.runtimes import OPENVINO, RUNTIMES


def from_onnx(program: Path) -> ov.Model:
    """OpenVINO's model of an ONNX program, in fp32.

    Args:
        program: the ``.onnx`` file; it is left as it is.

    Raises:
        ProgramError: it has an operator that OpenVINO does not.
    """
    proto = onnx.load(program)
    give_up_defaults(proto.graph)
    mend_empty_constants(proto.graph)
    mend_log_sum_exp(proto.graph)
    with tempfile.TemporaryDirectory(prefix="d2serve-openvino-") as folder:
        mended = Path(folder, "program.onnx")
        onnx.save(proto, mended)
        # Beside reading it, this simplifies the graph; weights are not mapped, as the folder ends.
        try:
            return ov.convert_model(mended, share_weights=False)
        except Exception as error:  # OpenVINO raises its own, without a common base
            raise ProgramError(
                f"OpenVINO {ov.get_version()} cannot read the ONNX program ({one_line(error)}). "
                "Use --runtime onnxruntime."
            ) from error


def save(model: ov.Model, folder: Path) -> Path:
    """Write a model as model.xml and model.bin.

    Returns:
        The main file, model.xml.
    """
    main = folder / RUNTIMES[OPENVINO].main_file
    # Weights in half precision would change answers.
    ov.save_model(model, main, compress_to_fp16=False)
    return main


def mend_empty_constants(graph: onnx.GraphProto) -> int:
    """Write constants without elements as ``ConstantOfShape``, in place; returns how many."""
    mended = 0
    for each in list(_graphs(graph)):
        for index, node in reversed(list(enumerate(each.node))):
            tensor = _empty_tensor(node)
            if tensor is not None:
                each.node.remove(node)
                for position, made in enumerate(_as_operation(node.output[0], tensor)):
                    each.node.insert(index + position, made)
                mended += 1
    return mended


def mend_log_sum_exp(graph: onnx.GraphProto) -> int:
    """Write ReduceLogSumExp as what it consists of, in place; returns how many."""
    mended = 0
    for each in list(_graphs(graph)):
        for index, node in reversed(list(enumerate(each.node))):
            if node.op_type == "ReduceLogSumExp" and len(node.input) == 1:
                each.node.remove(node)
                for position, made in enumerate(_in_parts(node)):
                    each.node.insert(index + position, made)
                mended += 1
    return mended


def _in_parts(node: onnx.NodeProto) -> tuple[onnx.NodeProto, ...]:
    given = {each.name: onnx.helper.get_attribute_value(each) for each in node.attribute}
    keep, axes, (x,), (out,) = given.get("keepdims", 1), given.get("axes"), node.input, node.output
    named = {} if axes is None else {"axes": axes}
    make = onnx.helper.make_node
    # The axes of ReduceSum are an input.
    over = () if axes is None else (f"{out}_axes",)
    constant = () if axes is None else (make("Constant", [], list(over), value_ints=axes),)
    return (
        *constant,
        make("ReduceMax", [x], [f"{out}_most"], keepdims=1, **named),
        make("Sub", [x, f"{out}_most"], [f"{out}_less"]),
        make("Exp", [f"{out}_less"], [f"{out}_exp"]),
        make("ReduceSum", [f"{out}_exp", *over], [f"{out}_sum"], keepdims=keep),
        make("Log", [f"{out}_sum"], [f"{out}_log"]),
        make("ReduceMax", [x], [f"{out}_base"], keepdims=keep, **named),
        make("Add", [f"{out}_log", f"{out}_base"], [out]),
    )


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from _graphs(attribute.g)


def _empty_tensor(node: onnx.NodeProto) -> onnx.TensorProto | None:
    if node.op_type != "Constant":
        return None
    for attribute in node.attribute:
        if attribute.name == "value" and 0 in attribute.t.dims:
            tensor: onnx.TensorProto = attribute.t
            return tensor
    return None


def _as_operation(name: str, tensor: onnx.TensorProto) -> tuple[onnx.NodeProto, onnx.NodeProto]:
    shape = onnx.helper.make_tensor(
        f"{name}_dims", onnx.TensorProto.INT64, [len(tensor.dims)], list(tensor.dims)
    )
    zero = onnx.helper.make_tensor(f"{name}_zero", tensor.data_type, [1], [0])
    return (
        onnx.helper.make_node("Constant", [], [f"{name}_shape"], value=shape),
        onnx.helper.make_node("ConstantOfShape", [f"{name}_shape"], [name], value=zero),
    )
