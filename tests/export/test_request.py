"""Options that do not go together are refused before any work, each with what to give instead."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from d2serve.export.errors import ConfigError
from d2serve.export.reading.config import ConfigSource
from d2serve.export.request import ExportRequest

OPENVINO = {"format": "onnx", "runtime": "openvino"}


def request(method: str = "tracing", name: str = "shapes", **options: Any) -> ExportRequest:
    return ExportRequest(ConfigSource("config.yaml"), method, name, **options)


@pytest.mark.parametrize(
    ("options", "runtime"),
    [
        ({}, "torchscript"),
        ({"method": "scripting"}, "torchscript"),
        ({"format": "onnx"}, "onnxruntime"),
        (OPENVINO, "openvino"),
        ({"format": "onnx", "method": "torch_export"}, "onnxruntime"),
        ({**OPENVINO, "method": "torch_export"}, "openvino"),
        ({"format": "tensorflow"}, "tensorflow"),
        ({"format": "tensorflow", "frozen": True}, "tensorflow"),
        ({"format": "onnx", "dynamic_batch": True}, "onnxruntime"),
        ({**OPENVINO, "dynamic_batch": True}, "openvino"),
        ({"method": "scripting", "dynamic_batch": True}, "torchscript"),
        ({**OPENVINO, "precision": "bf16"}, "openvino"),
        ({**OPENVINO, "precision": "int8", "calibration_images": Path("images")}, "openvino"),
    ],
)
def test_what_goes_together(options: dict[str, Any], runtime: str) -> None:
    asked = request(**options)
    asked.check()
    assert asked.chosen_runtime == runtime


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sixteen_bit": "pil"}, "--sixteen-bit is 'pil', expected one of opencv, read_image"),
        ({"method": "caffe2"}, "--export-method is 'caffe2', expected one of tracing, scripting"),
        ({"format": "tflite"}, "--format is 'tflite', expected one of torchscript, onnx"),
        ({"runtime": "openvino"}, "--runtime .*torchscript.* is 'openvino', expected one of torch"),
        ({"format": "onnx", "runtime": "torchscript"}, "expected one of onnxruntime, openvino"),
        ({"format": "onnx", "method": "scripting"}, "goes through tracing.*add --dynamic-batch"),
        ({"method": "torch_export"}, "torchscript goes through tracing or scripting, got"),
        (
            {"format": "onnx", "method": "torch_export", "dynamic_batch": True},
            "--dynamic-batch is there for .*onnx --export-method tracing only, got",
        ),
        (
            {**OPENVINO, "method": "torch_export", "precision": "bf16"},
            "bf16 is there for --export-method tracing only, got torch_export",
        ),
        (
            {"dynamic_batch": True},
            "--dynamic-batch is there for .*torchscript --export-method scripting and .*onnx",
        ),
        ({"format": "tensorflow", "dynamic_batch": True}, "--dynamic-batch .*got .*tensorflow"),
        (
            {**OPENVINO, "precision": "bf16", "dynamic_batch": True},
            "--dynamic-batch is there for --precision fp32, got bf16",
        ),
        ({**OPENVINO, "precision": "fp8"}, "--precision is 'fp8', expected one of fp32, bf16"),
        ({**OPENVINO, "precision": "fp16"}, "TensorRT only, got the runtime openvino"),
        ({"precision": "bf16"}, "OpenVINO only.*--format onnx --runtime openvino"),
        ({"format": "onnx", "precision": "int8"}, "OpenVINO only, got the runtime onnxruntime"),
        (
            {"frozen": True},
            "TensorFlow only, got .*torchscript.*or add: --format tensorflow",
        ),
        ({**OPENVINO, "frozen": True}, "--frozen is there for TensorFlow only, got --format onnx"),
        ({"format": "tensorflow", "method": "scripting"}, "tensorflow goes through tracing"),
        ({**OPENVINO, "calibration_images": Path("x")}, "is for --precision int8, got fp32"),
        ({**OPENVINO, "max_ap_drop": -1.0}, "--max-ap-drop is -1"),
        ({**OPENVINO, "max_ap_drop": float("nan")}, "--max-ap-drop is nan"),
        ({"name": "a b"}, "--name is 'a b'"),
        ({"version": "../1"}, "--version is '../1'"),
    ],
)
def test_what_does_not(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        request(**options).check()
