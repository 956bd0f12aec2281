"""A call's images in one array, and each image's part of what a program answers to them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from d2serve.handlers.digests import sha256_of
from d2serve.handlers.errors import LoadError
from d2serve.handlers.runtimes.joining import answers_of, joined, separated
from d2serve.handlers.runtimes.loading import load_runtime
from d2serve.handlers.spec.model_spec import ModelSpec
from d2serve.handlers.spec.output_names import SEM_SEG
from tests.handlers.samples import spec_with
from tests.ways import installed

OUTPUTS = ("pred_boxes", "scores", "pred_classes")
FILES = {"onnxruntime": "model.onnx", "openvino": "model.xml"}


def write_program(folder: Path, runtime: str, **changes: object) -> ModelSpec:
    """One instance an image: its score is the image's height, its class the image's index."""
    float_, int_ = TensorProto.FLOAT, TensorProto.INT64
    inputs = [
        helper.make_tensor_value_info("images", float_, ["n", 3, "h", "w"]),
        helper.make_tensor_value_info("sizes", int_, ["n", 2]),
    ]
    outputs = [
        helper.make_tensor_value_info("pred_boxes", float_, ["n", 4]),
        helper.make_tensor_value_info("scores", float_, ["n"]),
        helper.make_tensor_value_info("pred_classes", int_, ["n"]),
        helper.make_tensor_value_info("image_of_instance", int_, ["n"]),
    ]
    nodes = [
        helper.make_node("Gather", ["sizes", "zero"], ["heights"], axis=1),
        helper.make_node("Cast", ["heights"], ["scores"], to=float_),
        helper.make_node("ReduceMax", ["images"], ["most"], axes=[1, 2, 3], keepdims=0),
        helper.make_node("Cast", ["most"], ["pred_classes"], to=int_),
        helper.make_node("Cast", ["most"], ["image_of_instance"], to=int_),
        helper.make_node("Concat", ["sizes", "sizes"], ["corners"], axis=1),
        helper.make_node("Cast", ["corners"], ["pred_boxes"], to=float_),
    ]
    constants = [helper.make_tensor("zero", int_, [], [0])]
    graph = helper.make_graph(nodes, "program", inputs, outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, str(folder / "model.onnx"))
    files = ["model.onnx"]
    if runtime == "openvino":
        import openvino as ov

        ov.save_model(ov.convert_model(folder / "model.onnx"), folder / "model.xml")
        files = ["model.xml", "model.bin"]
    fields = {
        "runtime": runtime,
        "method": "tracing",
        "dynamic_batch": True,
        "program": files[0],
        "sha256": {name: sha256_of(folder / name) for name in files},
        "outputs": OUTPUTS,
        **changes,
    }
    return spec_with(**fields)


def image(index: int, height: int, width: int) -> np.ndarray:
    """It holds its index everywhere."""
    return np.full((3, height, width), index, np.float32)


@pytest.mark.parametrize("runtime", installed(FILES))
def test_a_call_answers_each_image_its_own(runtime: str, tmp_path: Path) -> None:
    loaded = load_runtime(tmp_path, write_program(tmp_path, runtime), "cpu")
    answers = loaded.run([image(0, 7, 9), image(1, 20, 4), image(2, 5, 30)])
    assert [list(each) for each in answers] == [list(OUTPUTS)] * 3
    assert [each["scores"].tolist() for each in answers] == [[7], [20], [5]]
    assert [each["pred_classes"].tolist() for each in answers] == [[0], [1], [2]]
    (alone,) = loaded.run([image(0, 11, 3)])
    assert alone["pred_boxes"].tolist() == [[11, 3, 11, 3]]


@pytest.mark.parametrize("runtime", installed(FILES))
def test_a_program_of_one_image_is_not_taken_for_one_of_batches(
    runtime: str, tmp_path: Path
) -> None:
    spec = write_program(tmp_path, runtime, dynamic_batch=False)
    with pytest.raises(LoadError, match="spec"):
        load_runtime(tmp_path, spec, "cpu")


def test_images_lie_in_the_upper_left() -> None:
    batch, sizes = joined([image(1, 2, 3), image(2, 4, 1)])
    assert sizes.tolist() == [[2, 3], [4, 1]]
    assert batch.shape == (2, 3, 4, 3)
    assert batch[0, 0].tolist() == [[1, 1, 1], [1, 1, 1], [0, 0, 0], [0, 0, 0]]
    assert batch[1, 2].tolist() == [[2, 0, 0]] * 4


def test_instances_go_to_their_image_and_labels_are_an_image_s() -> None:
    answers = {
        "scores": np.array([5, 6, 7]),
        SEM_SEG: np.arange(6).reshape(3, 2),
        "image_of_instance": np.array([2, 0, 2]),
    }
    first, second, third = separated(answers, 3)
    assert [each["scores"].tolist() for each in (first, second, third)] == [[6], [], [5, 7]]
    assert [each[SEM_SEG].tolist() for each in (first, second, third)] == [[0, 1], [2, 3], [4, 5]]


def test_labels_alone_need_no_index() -> None:
    spec = spec_with(
        runtime="onnxruntime", method="tracing", outputs=(SEM_SEG,), dynamic_batch=True
    )
    assert answers_of(spec) == (SEM_SEG,)
    (one,) = separated({SEM_SEG: np.zeros((1, 2, 4, 4))}, 1)
    assert one[SEM_SEG].shape == (2, 4, 4)
