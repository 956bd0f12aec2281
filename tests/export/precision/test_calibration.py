"""d2serve.export.precision.calibration: each image is run once."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import openvino as ov
import pytest
from openvino import opset8 as ops

from d2serve.export.errors import ProgramError
from d2serve.export.precision import calibration
from d2serve.export.precision.int8 import to_int8

IMAGES = 5


def _branching() -> ov.Model:
    """Convolutions, then a branch on whether anything is above zero, as suppression has one."""
    random = np.random.default_rng(0)
    image = ops.parameter([3, -1, -1], np.float32, name="image")
    x = ops.unsqueeze(image, np.int64(0))
    for ins, outs in ((3, 8), (8, 8), (8, 4)):
        weights = random.standard_normal((outs, ins, 3, 3)).astype(np.float32)
        x = ops.relu(ops.convolution(x, weights, [1, 1], [1, 1], [1, 1], [1, 1]))
    found = ops.reduce_max(x, np.array([2, 3]), keep_dims=False)
    best = ops.reduce_max(found, np.array([0, 1]), keep_dims=False)
    any_found = ops.greater(best, np.float32(0))
    for name, each in (("found", found), ("any_found", any_found)):  # NNCF asks by names
        each.output(0).get_tensor().set_names({name})
    branch = ops.if_op(any_found.output(0))
    bodies = []
    for factor in (1.0, 0.0):
        given = ops.parameter([1, 4], np.float32)
        bodies.append((given, ov.Model([ops.multiply(given, np.float32(factor))], [given])))
    (then, then_body), (other, other_body) = bodies
    branch.set_then_body(then_body)
    branch.set_else_body(other_body)
    branch.set_input(found.output(0), then, other)
    given = branch.set_output(then_body.get_results()[0], other_body.get_results()[0])
    above = ops.convert(ops.greater(given, np.float32(0)), np.int32)
    places = ops.transpose(ops.non_zero(above, output_type="i64"), np.array([1, 0]))
    scores = ops.gather_nd(given, places)
    scores.output(0).get_tensor().set_names({"scores"})
    return ov.Model([scores], [image])


def test_each_image_is_run_once(monkeypatch: pytest.MonkeyPatch) -> None:
    run: list[int] = []
    inputs = calibration._inputs

    def counting(model: ov.Model, image: npt.NDArray[np.float32]) -> list[npt.NDArray[np.generic]]:
        run.append(1)
        return inputs(model, image)

    monkeypatch.setattr(calibration, "_inputs", counting)
    quantized = to_int8(_branching(), _images(), fewest=IMAGES)
    kinds = [node.get_type_name() for node in quantized.get_ordered_ops()]
    assert kinds.count("FakeQuantize") >= 2
    assert kinds.count("If") == 1
    assert len(run) == IMAGES
    run.clear()
    to_int8(_branching(), _images(), fewest=2, most=3)
    assert len(run) == 3


def test_images_in_which_nothing_is_found_change_nothing() -> None:
    black = [np.zeros((3, 24, 32), np.float32)] * 2
    quantized = [
        to_int8(_branching(), images, fewest=IMAGES) for images in (_images(), black + _images())
    ]
    ranges, among_black = (
        [
            float(value.get_node().data.ravel()[0])
            for node in model.get_ordered_ops()
            if node.get_type_name() == "FakeQuantize"
            for value in node.input_values()[1:]
        ]
        for model in quantized
    )
    assert ranges == among_black
    with pytest.raises(ProgramError, match=r"the model finds something, and 5 such images are too"):
        to_int8(_branching(), black + _images(), fewest=IMAGES + 1)


def _images() -> list[npt.NDArray[np.float32]]:
    random = np.random.default_rng(1)
    return [random.uniform(0, 255, (3, 24, 32)).astype(np.float32) for _ in range(IMAGES)]
