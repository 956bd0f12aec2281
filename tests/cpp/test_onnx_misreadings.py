"""What OpenVINO misreads in an ONNX file is mended before it reads it.

It takes an empty constant for the number 0, and reduces ReduceLogSumExp over all axes; a program
with either would answer otherwise than in ONNX Runtime, and no error would say so.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from tests.cpp.building import run
from tests.handlers.samples import spec_with

_OUTPUTS = ("pred_boxes", "scores", "pred_classes")


def _constant(name: str, values: list[object], dtype: str) -> onnx.NodeProto:
    tensor = numpy_helper.from_array(np.array(values, dtype))
    return helper.make_node("Constant", [], [name], value=tensor)


def _program() -> onnx.ModelProto:
    """Scores are those of three channels, and of a list without elements within an ``If``."""
    branches = {}
    for branch in ("then", "else"):
        nodes = [
            _constant(f"{branch}_none", [], "float32"),
            helper.make_node("Concat", ["sums", f"{branch}_none"], [f"{branch}_scores"], axis=0),
        ]
        scores = helper.make_tensor_value_info(f"{branch}_scores", TensorProto.FLOAT, ["N"])
        branches[f"{branch}_branch"] = helper.make_graph(nodes, branch, [], [scores])
    nodes = [
        _constant("hundredth", [0.01], "float32"),
        helper.make_node("Mul", ["image", "hundredth"], ["scaled"]),
        helper.make_node("ReduceLogSumExp", ["scaled"], ["sums"], axes=[1, 2], keepdims=0),
        helper.make_node("ReduceMax", ["image"], ["brightest"], keepdims=0),
        _constant("zero", [0], "float32"),
        helper.make_node("Squeeze", ["zero"], ["threshold"]),
        helper.make_node("Greater", ["brightest", "threshold"], ["bright"]),
        helper.make_node("If", ["bright"], ["scores"], **branches),
        _constant("none", [], "int64"),
        _constant("three", [0, 1, 2], "int64"),
        helper.make_node("Concat", ["none", "three"], ["pred_classes"], axis=0),
        _constant("pred_boxes", [[0, 0, 9, 9]] * 3, "float32"),
    ]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [3, "H", "W"])
    outputs = [
        helper.make_tensor_value_info("pred_boxes", TensorProto.FLOAT, [3, 4]),
        helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["N"]),
        helper.make_tensor_value_info("pred_classes", TensorProto.INT64, ["N"]),
    ]
    graph = helper.make_graph(nodes, "misread", [image], outputs)
    opset = [helper.make_opsetid("", 17)]
    return helper.make_model(graph, opset_imports=opset, ir_version=8)


def test_an_onnx_program_answers_as_in_onnx_runtime(cpp_build: Path, tmp_path: Path) -> None:
    program = _program().SerializeToString()
    (tmp_path / "model.onnx").write_bytes(program)
    spec = spec_with(
        runtime="onnxruntime",
        method="tracing",
        program="model.onnx",
        sha256={"model.onnx": hashlib.sha256(program).hexdigest()},
        dynamic_batch=False,
        outputs=_OUTPUTS,
        image_format="RGB",
    )
    (tmp_path / "model_spec.json").write_text(spec.to_json())
    pixels = np.random.default_rng(0).integers(0, 256, (6, 5, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "image.png")
    session = onnxruntime.InferenceSession(program, providers=["CPUExecutionProvider"])
    given = pixels.transpose(2, 0, 1).astype(np.float32)
    scores, classes = session.run(["scores", "pred_classes"], {"image": given})

    command = cpp_build / "bin" / "d2serve_predict"
    found = json.loads(run(command, tmp_path, tmp_path / "image.png"))["instances"]
    by_score = np.argsort(-scores)
    assert len(set(scores.tolist())) == 3
    assert [each["category_id"] for each in found] == classes[by_score].tolist()
    assert [each["score"] for each in found] == pytest.approx(scores[by_score].tolist(), rel=1e-5)
