"""A TensorFlow program stands alone: named, of any size, traced once, on a disk in two forms."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

pytest.importorskip("d2serve.export.programs.tensorflow", reason="TensorFlow is not installed")

import tensorflow as tf

from d2serve.export.errors import ProgramError
from d2serve.export.programs.onnx import OPSET
from d2serve.export.programs.tensorflow.converting import Converted, convert


class Small(nn.Module):
    """Finds bright pixels, and convolves what surrounds each: nothing where there is none."""

    def __init__(self) -> None:
        super().__init__()
        self.before = nn.Conv2d(3, 5, 3, padding=1)
        self.apart = nn.Conv2d(5, 5, 3, padding=1, groups=5)
        self.after = nn.Conv2d(5, 8, 3)
        self.up = nn.ConvTranspose2d(8, 4, 2, 2)

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        features = self.apart(self.before(image[None])).relu()
        y, x = torch.nonzero(image[0] > 200, as_tuple=True)
        around = torch.arange(-1, 2)
        rows = (y[:, None, None] + around[None, :, None]).clamp(min=0, max=image.shape[1] - 1)
        columns = (x[:, None, None] + around[None, None, :]).clamp(min=0, max=image.shape[2] - 1)
        cut = features[0].permute(1, 2, 0)[rows, columns].permute(0, 3, 1, 2)
        return torch.stack([x, y], 1).float(), self.up(self.after(cut)).sigmoid()


@pytest.fixture(scope="module")
def model() -> Small:
    torch.manual_seed(0)
    return Small().eval()


@pytest.fixture(scope="module")
def program(model: Small, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("small") / "model.onnx"
    image = torch.rand(3, 12, 16) * 255
    torch.onnx.export(
        model, (image,), str(target), opset_version=OPSET, dynamo=False,
        input_names=["image"], output_names=["pred_boxes", "pred_masks"],
        dynamic_axes={"image": {1: "height", 2: "width"}, "pred_boxes": {0: "n"},
                      "pred_masks": {0: "n"}},
    )  # fmt: skip
    return target


@pytest.fixture(scope="module")
def converted(program: Path) -> Converted:
    return convert(program)


Answer = Callable[[np.ndarray], dict[str, np.ndarray]]


def assert_as_eager(model: Small, answer: Answer) -> None:
    for height, width, most in ((12, 16, 255), (9, 30, 255), (40, 7, 199), (8, 8, 0)):
        image = torch.rand(3, height, width) * most
        with torch.no_grad():
            boxes, masks = model(image)
        assert (len(boxes) > 20) == (most == 255)
        got = answer(image.numpy())
        assert got.keys() == {"pred_boxes", "pred_masks"}
        assert got["pred_masks"].shape == tuple(masks.shape)
        np.testing.assert_array_equal(got["pred_boxes"], boxes)
        np.testing.assert_allclose(got["pred_masks"], masks, atol=1e-5)


def test_answers_of_any_size_and_of_nothing(model: Small, converted: Converted) -> None:
    def answer(image: np.ndarray) -> dict[str, np.ndarray]:
        answers = converted.function(image=tf.constant(image))
        return {name: each.numpy() for name, each in answers.items()}

    assert_as_eager(model, answer)


def test_saved_with_a_signature_that_names_all(
    model: Small, converted: Converted, tmp_path: Path
) -> None:
    converted.save(tmp_path)
    signature = tf.saved_model.load(str(tmp_path)).signatures["serving_default"]
    _, named = signature.structured_input_signature
    assert named == {"image": tf.TensorSpec((3, None, None), tf.float32, "image")}
    assert set(signature.structured_outputs) == {"pred_boxes", "pred_masks"}

    def answer(image: np.ndarray) -> dict[str, np.ndarray]:
        return {name: each.numpy() for name, each in signature(image=tf.constant(image)).items()}

    assert_as_eager(model, answer)


def test_frozen_with_the_weights_in_one_file(
    model: Small, converted: Converted, tmp_path: Path
) -> None:
    converted.freeze(tmp_path / "model.pb")
    graph = tf.compat.v1.GraphDef()
    graph.ParseFromString((tmp_path / "model.pb").read_bytes())
    assert not {"VarHandleOp", "ReadVariableOp", "If"} & {node.op for node in graph.node}
    names = ("pred_boxes", "pred_masks")
    whole = tf.compat.v1.wrap_function(lambda: tf.import_graph_def(graph, name=""), [])
    function = whole.prune("image:0", [f"{name}:0" for name in names])

    def answer(image: np.ndarray) -> dict[str, np.ndarray]:
        answers = function(tf.constant(image))
        return {name: each.numpy() for name, each in zip(names, answers)}

    assert_as_eager(model, answer)


def test_weights_are_variables_and_kept_once(converted: Converted) -> None:
    assert [tuple(each.shape) for each in converted.weights] == [(3, 3, 5, 8)]  # > 256 elements


def test_nothing_of_this_machine_is_written(converted: Converted, tmp_path: Path) -> None:
    converted.save(tmp_path)
    for file in tmp_path.rglob("*"):
        assert file.is_dir() or str(Path(__file__).parents[4]).encode() not in file.read_bytes()


def with_node(program: Path, tmp_path: Path, **changes: str) -> Path:
    changed = onnx.load(program)
    node = next(each for each in changed.graph.node if each.op_type == "Relu")
    node.name = "/backbone/res2/act"
    node.op_type = changes["op_type"]
    node.domain = changes.get("domain", "")
    target = tmp_path / "changed.onnx"
    onnx.save(changed, target)
    return target


def test_operators_that_are_not_known_are_named(program: Path, tmp_path: Path) -> None:
    with pytest.raises(ProgramError, match=r"operator Bernoulli \(node /backbone/res2/act\)"):
        convert(with_node(program, tmp_path, op_type="Bernoulli"))
    with pytest.raises(ProgramError, match=r"operator mine\.Relu \(node /backbone/res2/act\)"):
        convert(with_node(program, tmp_path, op_type="Relu", domain="mine"))


def test_another_opset_is_refused(program: Path, tmp_path: Path) -> None:
    changed = onnx.load(program)
    changed.opset_import[0].version = 11
    onnx.save(changed, tmp_path / "old.onnx")
    with pytest.raises(ProgramError, match=r"opset \[11\].*opset 17.*Export the model again"):
        convert(tmp_path / "old.onnx")


def test_branches_on_what_an_image_shows(tmp_path: Path) -> None:
    """In the other branch there may be a tensor of another shape."""
    make = onnx.helper
    floats = onnx.TensorProto.FLOAT

    def branch(name: str, node: onnx.NodeProto) -> onnx.GraphProto:
        return make.make_graph([node], name, [], [make.make_tensor_value_info(name, floats, ["m"])])

    nodes = [
        make.make_node("ReduceMax", ["image"], ["most"], keepdims=0),
        make.make_node("Constant", [], ["limit"], value_float=100.0),
        make.make_node("Greater", ["most", "limit"], ["bright"]),
        make.make_node(
            "If", ["bright"], ["out"],
            then_branch=branch("a", make.make_node("ReduceMax", ["image"], ["a"], axes=[0, 1],
                                                   keepdims=0)),
            else_branch=branch("b", make.make_node("ReduceMax", ["image"], ["b"], axes=[1, 2],
                                                   keepdims=0)),
        ),
    ]  # fmt: skip
    graph = make.make_graph(
        nodes, "g", [make.make_tensor_value_info("image", floats, [3, "h", "w"])],
        [make.make_tensor_value_info("out", floats, ["n"])],
    )  # fmt: skip
    onnx.save(
        make.make_model(graph, opset_imports=[make.make_opsetid("", OPSET)], ir_version=8),
        tmp_path / "p.onnx",
    )
    function = convert(tmp_path / "p.onnx").function
    for most, axes in ((255, (0, 1)), (50, (1, 2))):
        image = np.random.default_rng(1).uniform(0, most, (3, 4, 5)).astype(np.float32)
        np.testing.assert_array_equal(function(image=tf.constant(image))["out"], image.max(axes))


def test_importing_prints_nothing_and_lets_torch_come_after() -> None:
    """triton, which torch imports when it needs it, ends a process that has TensorFlow."""
    done = subprocess.run(
        [sys.executable, "-c",
         "import d2serve.export.programs.tensorflow; import torch._dynamo, tensorflow as tf; "
         "tf.constant(1.0)"],
        capture_output=True, text=True, env={**os.environ, "PYTHONWARNINGS": "ignore"},
        check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
