"""An ONNX file is read as onnx reads it, and edited so that onnx and ONNX Runtime understand it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from d2serve.kernels.onnxruntime.editing import NewNode, edited
from d2serve.kernels.onnxruntime.graph import Graph, Tensor
from d2serve.kernels.onnxruntime.protobuf import WireError

LARGE = np.arange(2048, dtype=np.float32).reshape(32, 64)
GELU: dict[str, Any] = {
    "axis": -1,
    "share": 0.25,
    "mode": "fast",
    "axes": [2, -3],
    "value": numpy_helper.from_array(np.float32(0).reshape(1)),
}


def written() -> onnx.ModelProto:
    """Constants of every form, and a branch that uses one of them from within."""
    branch = helper.make_graph(
        [helper.make_node("Add", ["x", "only_in_branch"], ["sum"])],
        "branch",
        [],
        [helper.make_tensor_value_info("sum", TensorProto.FLOAT, None)],
    )
    nodes = [
        helper.make_node("MatMul", ["x", "large"], ["product"], "first"),
        helper.make_node("If", ["yes"], ["y"], then_branch=branch, else_branch=branch),
        helper.make_node("Gelu", ["y"], ["z"], domain="other", **GELU),
    ]
    constants = [
        numpy_helper.from_array(LARGE, "large"),
        numpy_helper.from_array(np.float32(3).reshape(1), "only_in_branch"),
        numpy_helper.from_array(np.array(True), "yes"),
        helper.make_tensor("typed", TensorProto.FLOAT, [2], [1.0, 2.0]),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 32])
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("z", "typed")]
    graph = helper.make_graph(nodes, "main", [x], ends, constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])


def test_what_is_read() -> None:
    graph = Graph.read(memoryview(written().SerializeToString()))
    assert [node.operator for node in graph.nodes] == ["MatMul", "If", "Gelu"]
    gelu = graph.nodes[2]
    assert graph.maker("z") is gelu
    assert graph.maker("x") is None
    assert (gelu.domain, gelu.inputs, gelu.outputs) == ("other", ("y",), ("z",))
    value = gelu.attributes["value"]
    assert isinstance(value, Tensor)
    assert value.raw is not None
    assert bytes(value.raw.of(graph.data)) == bytes(4)
    assert gelu.attributes == {**GELU, "axes": (2, -3), "value": value}
    assert graph.given == {"x"}
    # Both branches take it, and so does what is outside.
    assert graph.uses["only_in_branch"] == 2
    assert graph.uses["x"] == 3
    assert graph.uses["typed"] == 1
    found = graph.floats("large")
    assert found is not None
    np.testing.assert_array_equal(found, LARGE)
    assert graph.floats("yes") is None
    assert graph.floats("typed") is None
    assert graph.floats("x") is None


def test_an_edited_file_is_the_same_but_for_what_was_edited(tmp_path: Path) -> None:
    original = written()
    (tmp_path / "model.onnx").write_bytes(original.SerializeToString())
    graph = Graph.read(memoryview((tmp_path / "model.onnx").read_bytes()))
    node = NewNode("Own", "ours", ("y",), {"address": 1 << 47, "least": -1})
    (tmp_path / "edited.onnx").write_bytes(edited(graph, {2: node}, "model.onnx"))
    found = onnx.load(tmp_path / "edited.onnx")  # with the tensors of the original
    own = found.graph.node[2]
    assert (own.op_type, own.domain, own.input, own.output) == ("Own", "ours", ["y"], ["z"])
    assert {each.name: each.i for each in own.attribute} == {"address": 1 << 47, "least": -1}
    assert {each.domain: each.version for each in found.opset_import} == {"": 17, "ours": 1}
    for kept, before in zip(found.graph.initializer, original.graph.initializer):
        kept.ClearField("data_location")
        assert kept == before
    del found.opset_import[1]
    found.graph.node[2].CopyFrom(original.graph.node[2])
    assert found == original


def test_what_only_replaced_nodes_took_is_left_out() -> None:
    graph = Graph.read(memoryview(written().SerializeToString()))

    def left(new: dict[int, NewNode]) -> tuple[list[str], list[str]]:
        found = onnx.load_from_string(edited(graph, new, "model.onnx")).graph
        return [each.op_type for each in found.node], [each.name for each in found.initializer]

    # What takes a value in a branch may be anything, so an If keeps what its branches name.
    assert left({2: NewNode("Own", "ours", ("product",), {})}) == (
        ["MatMul", "Own"],
        ["large", "only_in_branch", "typed"],
    )
    assert left({0: NewNode("Own", "ours", ("x",), {})}) == (
        ["Own", "If", "Gelu"],
        ["only_in_branch", "yes", "typed"],
    )


@pytest.mark.parametrize("cut", [1, 7, 100])
def test_a_file_that_breaks_off(cut: int) -> None:
    with pytest.raises(WireError, match=r"ends|end at byte"):
        Graph.read(memoryview(written().SerializeToString()[:-cut]))
