"""OpenVINO answers alike with its own convolutions and with ours, whatever is around them."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import pytest
from numpy.typing import NDArray
from openvino import opset13 as op

from d2serve.kernels.library import library

pytestmark = pytest.mark.skipif(library() is None, reason="no native kernels are installed")

CHANNELS = 24


def drawn(*shape: int) -> NDArray[np.float32]:
    random = np.random.default_rng(sum(shape))
    values: NDArray[np.float32] = random.standard_normal(shape, np.float32)
    return values / np.float32(np.sqrt(np.prod(shape[1:])))


def convolved(
    x: Any, outs: int, size: int = 3, stride: int = 1, padding: int = 1, dilation: int = 1
) -> Any:
    ins = x.output(0).get_partial_shape()[1].get_length()
    sides = [[each] * 2 for each in (stride, padding, padding, dilation)]
    return op.convolution(x, drawn(outs, ins, size, size), *sides)


def with_bias(x: Any) -> Any:
    return op.add(x, drawn(1, x.output(0).get_partial_shape()[1].get_length(), 1, 1))


def model() -> ov.Model:
    """Every way in which 3x3 layers follow each other in a detector: 5 fit, as does one of 1x1."""
    images = op.parameter([-1, 3, -1, -1], np.float32)
    boxes = np.array([[0, 0, 5, 5], [1, 2, 4, 6]], np.float32)
    stem = op.relu(with_bias(convolved(images, CHANNELS, stride=2)))
    block = op.relu(with_bias(convolved(stem, CHANNELS)))
    same = op.relu(convolved(block, CHANNELS))
    wide = with_bias(convolved(same, CHANNELS, padding=2, dilation=2))
    # Both the sum and its ReLU are taken further, so the ReLU is no part of the layer.
    features = with_bias(convolved(op.add(wide, block), CHANNELS))
    level = op.relu(features)
    hidden = op.relu(with_bias(convolved(features, CHANNELS)))
    scores = with_bias(convolved(hidden, 3, size=1, padding=0))
    pooled = op.roi_align(features, boxes, np.zeros(2, np.int32), 4, 4, 2, 1.0, "avg", "half_pixel")
    masks = convolved(pooled, CHANNELS)
    grouped = op.group_convolution(level, drawn(2, 12, 12, 3, 3), [1, 1], [1, 1], [1, 1], [1, 1])
    return ov.Model([scores, masks, level, grouped], [images], "m")


def pyramid() -> ov.Model:
    """1x1 layers as a backbone with an FPN has them, and a mask head's last ones."""
    level = op.parameter([-1, CHANNELS, -1, -1], np.float32)
    narrow = op.relu(with_bias(convolved(level, 8, size=1, padding=0)))
    inner = op.relu(convolved(narrow, 8))
    shortcut = with_bias(convolved(level, 40, size=1, padding=0))
    block = op.relu(op.add(with_bias(convolved(inner, 40, size=1, padding=0)), shortcut))
    upper = op.relu(with_bias(convolved(block, CHANNELS, size=1, stride=2, padding=0)))
    doubled = op.interpolate(
        upper,
        np.array([1, 1, 2, 2], np.float32),
        "nearest",
        "scales",
        coordinate_transformation_mode="asymmetric",
        nearest_mode="floor",
    )
    lower = op.add(with_bias(convolved(block, CHANNELS, size=1, padding=0)), doubled)
    merged = convolved(lower, CHANNELS)
    # Of one pixel for all: what is added is broadcast, and broadcasts what it is added to.
    context = op.reduce_mean(merged, np.array([2, 3]), keep_dims=True)
    spread = op.add(convolved(merged, CHANNELS, size=1, padding=0), context)
    gathered = op.relu(op.add(with_bias(convolved(context, CHANNELS, size=1, padding=0)), merged))
    return ov.Model([merged, spread, gathered], [level], "m")


def mask_head() -> ov.Model:
    images = op.parameter([-1, 8, 6, 6], np.float32)
    hidden = op.relu(convolved(images, 8))
    sides = {"pads_begin": [0, 0], "pads_end": [0, 0], "dilations": [1, 1]}
    weights = op.constant(drawn(8, 12, 2, 2))
    large = op.convolution_backprop_data(hidden, weights, [2, 2], **sides)
    large = op.relu(with_bias(large))
    return ov.Model([with_bias(convolved(large, 5, size=1, padding=0))], [images], "m")


def answers(model: ov.Model, images: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    request = ov.Core().compile_model(model, "CPU", settings).create_infer_request()
    request.infer([images])
    return [request.get_output_tensor(i).data.copy() for i in range(len(model.outputs))]


@pytest.mark.parametrize("threads", [1, 2])
def test_the_answers_stay(tmp_path: Path, threads: int) -> None:
    from d2serve.kernels.openvino.replacing import OURS, replace_convolutions

    replacing = model()
    replaced = replace_convolutions(replacing, tmp_path, threads, where_it_pays=False)
    assert (replaced.convolutions, replaced.points, replaced.others) == (5, 1, 0)
    # Layers of the same weights share a file.
    assert replaced.files == set((tmp_path / "winograd").iterdir())
    assert str(replaced) == (
        "Winograd's algorithm in 5 of its 5 3x3 convolutions and d2serve's own 1 of 1x1"
    )
    assert kinds_of(replacing).count(OURS) == 6
    for shape in [(1, 3, 40, 52), (1, 3, 33, 9), (2, 3, 20, 20)]:
        images = drawn(*shape) * 100
        for got, expected in zip(answers(replacing, images), answers(model(), images)):
            assert got.shape == expected.shape
            assert abs(expected).max() > 0.1
            np.testing.assert_allclose(got, expected, rtol=0, atol=1e-4 * abs(expected).max())


def kinds_of(model: ov.Model) -> list[str]:
    return [node.get_type_name() for node in model.get_ordered_ops()]


@pytest.mark.parametrize("where_it_pays", [True, False])
def test_what_is_added_and_upsampled(where_it_pays: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    from d2serve.kernels.openvino import replacing

    monkeypatch.setattr(replacing, "pays", lambda *_: True)  # also on a CPU without AVX2
    model = pyramid()
    replaced = replacing.replace_convolutions(model, None, 2, where_it_pays=where_it_pays)
    assert replaced.convolutions == 2
    kinds = kinds_of(model)
    assert "Convolution" not in kinds
    assert "Interpolate" not in kinds
    assert kinds.count("Add") == 0
    for shape in [(1, CHANNELS, 10, 12), (2, CHANNELS, 2, 2)]:
        images = drawn(*shape) * 100
        for got, expected in zip(answers(model, images), answers(pyramid(), images)):
            assert abs(expected).max() > 0.1
            np.testing.assert_allclose(got, expected, rtol=0, atol=1e-4 * abs(expected).max())


@pytest.mark.parametrize("count", [0, 3])
def test_a_deconvolution_before_a_narrow_layer(count: int) -> None:
    from d2serve.kernels.openvino.replacing import replace_convolutions

    replacing = mask_head()
    replaced = replace_convolutions(replacing, None, 1, where_it_pays=False)
    assert replaced.points == 2
    assert "ConvolutionBackpropData" not in kinds_of(replacing)
    images = drawn(count, 8, 6, 6) * 100 if count else np.zeros((0, 8, 6, 6), np.float32)
    (got,), (expected,) = answers(replacing, images), answers(mask_head(), images)
    assert got.shape == expected.shape == (count, 5, 12, 12)
    bound = 1e-4 * abs(expected).max(initial=0)
    np.testing.assert_allclose(got, expected, rtol=0, atol=bound)


def test_new_shapes_leave_nothing_behind() -> None:
    from d2serve.kernels.openvino.replacing import NativeConvolution, replace_convolutions

    model = pyramid()
    replaced = replace_convolutions(model, None, 1, where_it_pays=False)
    request = ov.Core().compile_model(model, "CPU").create_infer_request()
    alive = []
    for side in range(2, 14, 2):
        request.infer([drawn(1, CHANNELS, side, side)])
        gc.collect()
        alive.append(sum(isinstance(each, NativeConvolution) for each in gc.get_objects()))
    assert alive[0] >= replaced.convolutions + replaced.points
    assert alive[1:] == alive[:-1]


def test_no_images_at_all() -> None:
    """As a mask head gets them where nothing was found."""
    from d2serve.kernels.openvino.replacing import replace_convolutions

    images = op.parameter([-1, 8, 14, 14], np.float32)
    empty = ov.Model([op.relu(convolved(convolved(images, 8), 16))], [images], "m")
    replaced = replace_convolutions(empty, None, 1, where_it_pays=False)
    assert replaced.convolutions == 2
    (found,) = answers(empty, np.zeros((0, 8, 14, 14), np.float32))
    assert found.shape == (0, 16, 14, 14)


def test_layers_side_by_side_stay_apart() -> None:
    """As a RetinaNet's head has them, shared by maps of several sizes, however small."""
    from d2serve.kernels.openvino.replacing import replace_convolutions

    def heads() -> ov.Model:
        level = op.parameter([-1, CHANNELS, -1, -1], np.float32)
        layers = {
            name: [op.constant(seed * drawn(outs, CHANNELS, 3, 3)) for seed, outs in each]
            for name, each in {"scores": [(1, 24), (1, 6)], "boxes": [(-1, 24), (1, 8)]}.items()
        }
        sides = [[1, 1]] * 4
        found = []
        for map_ in (level, convolved(level, CHANNELS, stride=2)):
            for first, last in layers.values():
                hidden = op.relu(op.convolution(map_, first, *sides))
                found.append(op.convolution(hidden, last, *sides))
        return ov.Model(found, [level], "m")

    replacing = heads()
    replaced = replace_convolutions(replacing, None, 1, where_it_pays=False)
    assert replaced.convolutions == 8
    for shape in [(1, CHANNELS, 9, 12), (2, CHANNELS, 1, 2), (1, CHANNELS, 1, 1)]:
        images = drawn(*shape) * 100
        for got, expected in zip(answers(replacing, images), answers(heads(), images)):
            assert abs(expected).max() > 0.1
            np.testing.assert_allclose(got, expected, rtol=0, atol=1e-4 * abs(expected).max())


def test_layers_that_gain_nothing_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    from d2serve.kernels import choosing
    from d2serve.kernels.openvino.replacing import replace_convolutions

    monkeypatch.setattr(choosing, "ways", lambda: ("portable",))
    replaced = replace_convolutions(model(), None, 1, where_it_pays=True)
    assert (replaced.convolutions, replaced.others) == (0, 5)
    monkeypatch.setattr(choosing, "ways", lambda: ("portable", "avx2"))
    assert choosing.pays(256, 256)
    assert not choosing.pays(512, 512)
    assert not choosing.pays(256, 3)
