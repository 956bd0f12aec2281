"""An archive that answers, made within milliseconds: an ONNX program whose answers are known."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import zipfile
from pathlib import Path
from typing import Any

from onnx import TensorProto, helper

from d2serve.handlers.spec.model_spec import ModelSpec
from tests.cli.small_archives import small_spec

CLASS_NAMES = ("circle", "square")


@functools.cache
def program() -> bytes:
    """One circle with a mask: the image's upper left quarter, with its mean as score."""
    constants = {
        "quarter": helper.make_tensor("", TensorProto.FLOAT, [1, 4], [0, 0, 0.5, 0.5]),
        "white": helper.make_tensor("", TensorProto.FLOAT, [], [255]),
        "sides": helper.make_tensor("", TensorProto.INT64, [4], [2, 1, 2, 1]),
        "one": helper.make_tensor("", TensorProto.INT64, [1], [1]),
        "pred_classes": helper.make_tensor("", TensorProto.INT64, [1], [0]),
        "pred_masks": helper.make_tensor("", TensorProto.FLOAT, [1, 1, 28, 28], [1.0] * 784),
    }
    nodes = [
        *(helper.make_node("Constant", [], [name], value=v) for name, v in constants.items()),
        helper.make_node("ReduceMean", ["image"], ["mean"], keepdims=0),
        helper.make_node("Div", ["mean", "white"], ["share"]),
        helper.make_node("Reshape", ["share", "one"], ["scores"]),
        helper.make_node("Shape", ["image"], ["shape"]),
        helper.make_node("Gather", ["shape", "sides"], ["size"]),
        helper.make_node("Cast", ["size"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["quarter", "floats"], ["pred_boxes"]),
    ]
    outputs = [
        helper.make_tensor_value_info("pred_boxes", TensorProto.FLOAT, [1, 4]),
        helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1]),
        helper.make_tensor_value_info("pred_classes", TensorProto.INT64, [1]),
        helper.make_tensor_value_info("pred_masks", TensorProto.FLOAT, [1, 1, 28, 28]),
    ]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [3, "height", "width"])
    graph = helper.make_graph(nodes, "program", [image], outputs)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    made: bytes = model.SerializeToString()
    return made


def spec(name: str, **changes: Any) -> ModelSpec:
    model = program()
    fields = {
        "runtime": "onnxruntime",
        "program": "model.onnx",
        "sha256": {"model.onnx": hashlib.sha256(model).hexdigest()},
        "outputs": ("pred_boxes", "scores", "pred_classes", "pred_masks"),
        "class_names": CLASS_NAMES,
        "min_size_test": 0,
        **changes,
    }
    return dataclasses.replace(small_spec(name), **fields)


def answering_archive(
    file: Path, name: str = "shapes", version: str = "2.0", settings: str = "", **spec_: Any
) -> Path:
    """Write a .mar; returns its path.

    Args:
        settings: the text of its model-config.yaml; without, it has none.
    """
    model = {"modelName": name, "modelVersion": version, "handler": "h.py"}
    manifest = {"model": {**model, **({"configFile": "model-config.yaml"} if settings else {})}}
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("MAR-INF/MANIFEST.json", json.dumps(manifest))
        archive.writestr("model_spec.json", spec(name, **spec_).to_json())
        archive.writestr("model.onnx", program())
        archive.writestr("h.py", "")
        if settings:
            archive.writestr("model-config.yaml", settings)
    return file
