"""What is taken for the network, what is kept exact, and that empty answers stay empty."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import openvino as ov
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper
from openvino import opset13 as op

from d2serve.export.errors import ProgramError
from d2serve.export.precision.bf16 import to_bf16
from d2serve.export.precision.int8 import to_int8, to_int8_within
from d2serve.export.precision.layers import layers_of
from d2serve.export.programs.openvino import from_onnx, mend_empty_constants
from tests.export.precision.detectors import two_stages

RNG = np.random.default_rng(0)


def weights(*shape: int) -> NDArray[np.float32]:
    return RNG.normal(0, 0.2, shape).astype(np.float32)


def conv(source: ov.Output, out: int, into: int, name: str) -> ov.Node:
    return op.convolution(
        source, weights(out, into, 3, 3), [1, 1], [1, 1], [1, 1], [1, 1], name=name
    )


@pytest.fixture
def detector() -> ov.Model:
    """Stem, second layer, boxes from it, features pooled in these boxes, a score for each."""
    image = op.parameter([3, -1, -1], np.float32, name="image")
    normal = op.divide(image, np.float32(64), name="normalise")
    batch = op.unsqueeze(normal, np.int64(0))
    batch.set_friendly_name("batch")
    stem = op.relu(conv(batch, 8, 3, "stem"), name="stem_relu")
    features = op.relu(conv(stem, 8, 8, "second"), name="second_relu")
    deltas = conv(features, 4, 8, "deltas")
    pooled_deltas = op.reduce_mean(deltas, np.array([2, 3]), False, name="mean_of_deltas")
    boxes = op.add(op.abs(pooled_deltas), np.array([[0, 0, 6, 6]], np.float32), name="decode")
    pooled = op.roi_align(features, boxes, np.zeros(1, np.int32), 2, 2, 0, 1.0, "avg")
    pooled.set_friendly_name("roi")
    flat = op.reshape(pooled, np.array([1, 32]), False, name="flat")
    logits = op.matmul(flat, weights(32, 3), False, False, name="logits")
    scores = op.squeeze(op.softmax(logits, 1, name="softmax"), np.int64(0))
    for node, name in ((boxes, "pred_boxes"), (scores, "scores")):
        node.output(0).set_names({name})
    return ov.Model([boxes, scores], [image], "detector")


def test_the_network_is_told_from_the_arithmetic(detector: ov.Model) -> None:
    layers = layers_of(detector)
    assert layers.weighted == {"stem", "second", "deltas", "logits"}
    assert layers.between == {"stem_relu", "second_relu", "roi", "flat"}
    assert layers.last == layers.answering == {"deltas", "logits"}
    assert layers.before_last == {"second"}
    assert layers.first == {"stem"}
    assert {"normalise", "mean_of_deltas", "decode", "softmax"} <= layers.arithmetic
    assert layers.entering == {"batch"}


def test_proposals_and_masks_are_no_answers_in_numbers() -> None:
    layers = layers_of(two_stages())
    assert layers.last == {"deltas", "logits", "refine", "mask_predictor"}
    assert layers.answering == {"logits", "refine"}


def precision_of(model: ov.Model, hint: str) -> dict[str, str]:
    compiled = ov.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": hint})
    return {
        original: info["runtimePrecision"].astype(str)
        for info in (node.get_rt_info() for node in compiled.get_runtime_model().get_ops())
        for original in info["originalLayersNames"].astype(str).split(",")
    }


needs_bf16 = pytest.mark.skipif(
    "BF16" not in ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"),
    reason="this CPU has no bf16",
)


@needs_bf16
def test_only_the_network_runs_in_bf16(detector: ov.Model) -> None:
    runs_in = precision_of(to_bf16(detector), "bf16")
    assert runs_in["stem"] == runs_in["second"] == runs_in["roi"] == "bf16"
    assert runs_in["deltas"] == runs_in["logits"] == runs_in["softmax"] == "f32"
    assert runs_in["decode"] == runs_in["mean_of_deltas"] == "f32"
    assert precision_of(detector, "bf16")["deltas"] == "bf16"  # what the marks prevent


@needs_bf16
def test_proposals_and_masks_run_in_bf16() -> None:
    lowered = to_bf16(two_stages())
    runs_in = precision_of(lowered, "bf16")
    assert {"deltas", "fc", "mask_predictor"} <= {n for n, run in runs_in.items() if run == "bf16"}
    assert runs_in["logits"] == runs_in["refine"] == runs_in["proposals"] == "f32"
    # What ROIs are put into is no copy of zeros in fp32.
    put = [node for node in lowered.get_ops() if node.get_type_name() == "ScatterNDUpdate"]
    zeros = [node.input_value(0).get_node().input_value(0).get_node() for node in put]
    assert [node.get_element_type() for node in zeros if node.get_type_name() == "Broadcast"] == [
        ov.Type.bf16
    ]


def test_in_fp32_the_marks_change_nothing(detector: ov.Model) -> None:
    image = RNG.uniform(0, 255, (3, 20, 30)).astype(np.float32)
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    for exact in (detector, two_stages()):
        answers = []
        for model in (exact, to_bf16(exact)):
            request = ov.Core().compile_model(model, "CPU", settings).create_infer_request()
            request.infer([image])
            answers.append(request.get_tensor("pred_boxes").data.copy())
        assert np.array_equal(*answers)


def test_int8_leaves_the_last_layers_alone(detector: ov.Model) -> None:
    images = [RNG.uniform(0, 255, (3, 20, 30)).astype(np.float32) for _ in range(4)]
    quantized = to_int8(detector, images, fewest=4)
    by_name = {node.get_friendly_name(): node for node in quantized.get_ops()}
    feeding = {
        name: by_name[name].input_value(0).get_node().get_type_name()
        for name in ("stem", "second", "deltas", "logits")
    }
    assert feeding["stem"] == feeding["second"] == "FakeQuantize"
    assert layers_of(quantized).last == {"deltas", "logits"}
    weights_of = {name: by_name[name].input_value(1).get_node().get_type_name() for name in feeding}
    assert weights_of["logits"] == "Constant"


def test_int8_has_no_quantizer_where_openvino_would_run_it_by_itself() -> None:
    images = [RNG.uniform(0, 255, (3, 20, 30)).astype(np.float32) for _ in range(4)]
    quantized = to_int8(two_stages(), images, fewest=4)
    by_name = {node.get_friendly_name(): node for node in quantized.get_ops()}
    # The first layers of the heads are in int8: what they take is quantized after it is put
    # together, not level by level.
    for name in ("flat", "mask_fcn"):
        quantizer = by_name[name].input_value(0).get_node()
        assert quantizer.get_type_name() == "FakeQuantize"
        assert quantizer.input_value(0).get_node().get_type_name() == "ScatterNDUpdate"
    # ROIAlign takes what the proposals' layer takes, so that one layer gives int8 to both.
    taking = by_name["fine_relu"].output(0).get_target_inputs()
    assert [each.get_node().get_type_name() for each in taking] == ["FakeQuantize"]


def test_too_few_images(detector: ov.Model) -> None:
    with pytest.raises(ProgramError, match=r"3 such images are too few\. Name at least 100"):
        to_int8(detector, [np.ones((3, 20, 30), np.float32)] * 3)


def test_int8_leaves_more_in_float_until_little_enough_is_lost(detector: ov.Model) -> None:
    images = [RNG.uniform(0, 255, (3, 20, 30)).astype(np.float32) for _ in range(4)]
    quantized: list[frozenset[str]] = []

    def drop_of(model: ov.Model) -> float:
        names = ("stem", "second", "deltas", "logits")
        nodes = {node.get_friendly_name(): node for node in model.get_ops()}
        feeding = {name: nodes[name].input_value(0).get_node().get_type_name() for name in names}
        quantized.append(frozenset(n for n, kind in feeding.items() if kind == "FakeQuantize"))
        return (2.0, 0.75, 0.5)[len(quantized) - 1]

    _, tried = to_int8_within(detector, images, drop_of, allowed=0.8, fewest=4)
    assert [attempt.drop for attempt in tried] == [2.0, 0.75]
    assert {"stem", "second"} <= quantized[0]
    assert "second" not in quantized[1]
    assert "stem" in quantized[1]
    quantized.clear()
    with pytest.raises(ProgramError, match=r"more than 0\.10 AP.*2\.00 with .*0\.75.*0\.50"):
        to_int8_within(detector, images, drop_of, allowed=0.1, fewest=4)


def program_with_an_empty_branch() -> onnx.ModelProto:
    """Answers nothing where the image is black, else one number."""

    def branch(name: str, values: list[int]) -> onnx.GraphProto:
        tensor = helper.make_tensor(name, TensorProto.INT64, [len(values)], values)
        output = helper.make_tensor_value_info(name, TensorProto.INT64, [None])
        return helper.make_graph(
            [helper.make_node("Constant", [], [name], value=tensor)], name, [], [output]
        )

    nodes = [
        helper.make_node("ReduceMax", ["image"], ["brightest"], keepdims=0),
        helper.make_node("Cast", ["brightest"], ["any"], to=TensorProto.BOOL),
        helper.make_node(
            "If", ["any"], ["keep"], then_branch=branch("t", [7]), else_branch=branch("e", [])
        ),
    ]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [3, None, None])
    keep = helper.make_tensor_value_info("keep", TensorProto.INT64, [None])
    graph = helper.make_graph(nodes, "g", [image], [keep])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_nothing_stays_nothing(tmp_path: Path) -> None:
    path = tmp_path / "program.onnx"
    onnx.save(program_with_an_empty_branch(), path)
    request = ov.Core().compile_model(from_onnx(path), "CPU").create_infer_request()
    for image, expected in ((np.zeros, []), (np.ones, [7])):
        request.infer([image((3, 4, 5), np.float32)])
        assert request.get_tensor("keep").data.tolist() == expected


def test_mended_programs_are_valid() -> None:
    program = program_with_an_empty_branch()
    assert mend_empty_constants(program.graph) == 1
    onnx.checker.check_model(program, full_check=True)
    assert mend_empty_constants(program.graph) == 0
