"""OpenVINO answers alike with its own convolutions and with Winograd's, whatever is around them."""

from __future__ import annotations

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
    """Every way in which layers follow each other in a detector: 5 convolutions fit, 3 do not."""
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


def answers(model: ov.Model, images: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    request = ov.Core().compile_model(model, "CPU", settings).create_infer_request()
    request.infer([images])
    return [request.get_output_tensor(i).data.copy() for i in range(len(model.outputs))]


@pytest.mark.parametrize("threads", [1, 2])
def test_the_answers_stay(tmp_path: Path, threads: int) -> None:
    from d2serve.kernels.openvino import replace_convolutions

    replacing = model()
    replaced = replace_convolutions(replacing, tmp_path, threads, where_it_pays=False)
    assert (replaced.convolutions, replaced.others) == (5, 0)
    # Layers of the same weights share a file.
    assert replaced.files == set((tmp_path / "winograd").iterdir())
    assert str(replaced) == "Winograd's algorithm in 5 of its 5 3x3 convolutions"
    kinds = [node.get_type_name() for node in replacing.get_ordered_ops()]
    assert kinds.count("WinogradConvolution") == 5
    for shape in [(1, 3, 40, 52), (1, 3, 33, 9), (2, 3, 20, 20)]:
        images = drawn(*shape) * 100
        for got, expected in zip(answers(replacing, images), answers(model(), images)):
            assert got.shape == expected.shape
            assert abs(expected).max() > 0.1
            np.testing.assert_allclose(got, expected, rtol=0, atol=1e-4 * abs(expected).max())


def test_no_images_at_all() -> None:
    """As a mask head gets them where nothing was found."""
    from d2serve.kernels.openvino import replace_convolutions

    images = op.parameter([-1, 8, 14, 14], np.float32)
    empty = ov.Model([op.relu(convolved(convolved(images, 8), 16))], [images], "m")
    assert replace_convolutions(empty, None, 1, where_it_pays=False).convolutions == 2
    (found,) = answers(empty, np.zeros((0, 8, 14, 14), np.float32))
    assert found.shape == (0, 16, 14, 14)


def test_layers_side_by_side_stay_apart() -> None:
    """As a RetinaNet's head has them, shared by maps of several sizes, however small."""
    from d2serve.kernels.openvino import replace_convolutions

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
    assert replace_convolutions(replacing, None, 1, where_it_pays=False).convolutions == 8
    for shape in [(1, CHANNELS, 9, 12), (2, CHANNELS, 1, 2), (1, CHANNELS, 1, 1)]:
        images = drawn(*shape) * 100
        for got, expected in zip(answers(replacing, images), answers(heads(), images)):
            assert abs(expected).max() > 0.1
            np.testing.assert_allclose(got, expected, rtol=0, atol=1e-4 * abs(expected).max())


def test_layers_that_gain_nothing_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    from d2serve.kernels import choosing
    from d2serve.kernels.openvino import replace_convolutions

    monkeypatch.setattr(choosing, "ways", lambda: ("portable",))
    replaced = replace_convolutions(model(), None, 1, where_it_pays=True)
    assert (replaced.convolutions, replaced.others) == (0, 5)
    monkeypatch.setattr(choosing, "ways", lambda: ("portable", "avx2"))
    assert choosing.pays(256, 256)
    assert not choosing.pays(512, 512)
    assert not choosing.pays(256, 3)
