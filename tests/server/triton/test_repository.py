"""What a model repository says of models of other kinds; tests/engines/triton runs one."""

from __future__ import annotations

from dataclasses import replace

import pytest

from d2serve.handlers.cores import available_cores
from d2serve.handlers.replies.fields import tensors_of
from d2serve.handlers.requests.options import OPTIONS
from d2serve.handlers.spec.model_spec import ModelSpec
from d2serve.server.triton.repository import files_of, version_number
from tests.handlers.samples import spec_with


def configuration(spec: ModelSpec) -> str:
    return files_of(spec, "shapes", "2.1", {})["models/shapes/config.pbtxt"]


def test_every_option_and_output_has_its_tensor() -> None:
    spec = spec_with()
    lines = configuration(spec).splitlines()
    inputs = [line.split('"')[1] for line in lines if line.startswith("input ")]
    assert inputs == ["image", "pixels", *(each.name for each in OPTIONS), "outputs"]
    outputs = [line.split('"')[1] for line in lines if line.startswith("output ")]
    assert outputs == [each.name for each in tensors_of(spec)]
    boxes = 'output { name: "boxes" data_type: TYPE_FP32 dims: [-1, 4] }'
    assert boxes in lines


@pytest.mark.parametrize(
    ("runtime", "batches", "expected"),
    [
        ("torchscript", True, ("max_batch_size: 8", "kind: KIND_AUTO count: 1")),
        ("torchscript", False, ("max_batch_size: 0", "kind: KIND_AUTO count: 1")),
        ("onnxruntime", False, ("max_batch_size: 0", f"kind: KIND_CPU count: {available_cores()}")),
        ("openvino", False, ("max_batch_size: 0", f"kind: KIND_CPU count: {available_cores()}")),
    ],
)
def test_requests_are_joined_for_programs_that_take_several_images_on_a_gpu(
    runtime: str, batches: bool, expected: tuple[str, str]
) -> None:
    text = configuration(replace(spec_with(), runtime=runtime, dynamic_batch=batches))
    for each in expected:
        assert each in text
    assert ("dynamic_batching" in text) is batches


@pytest.mark.parametrize(
    ("version", "number"),
    [("1.0", "1"), ("2.1", "2"), ("10", "10"), ("007.2", "7"), ("0.3", "1"), ("beta", "1")],
)
def test_a_versions_folder_has_a_number_above_0(version: str, number: str) -> None:
    assert version_number(version) == number
    assert f"models/shapes/{number}/model.py" in files_of(spec_with(), "shapes", version, {})
