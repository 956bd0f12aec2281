"""ONNX Runtime answers alike with its own convolutions and with Winograd's, whatever is around."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from d2serve.kernels.library import library
from d2serve.kernels.onnxruntime.program import WinogradProgram
from tests.kernels.onnx_drawing import (
    Drawing,
    assert_answers_stay,
    drawn,
    options,
    own_answers,
)

pytestmark = pytest.mark.skipif(library() is None, reason="no native kernels are installed")

CHANNELS = 24


def program(folder: Path) -> Path:
    """Every way in which layers follow each other in a detector: 6 convolutions fit, 5 do not."""
    d = Drawing()
    square = (CHANNELS, CHANNELS, 3, 3)
    bias = d.constant(CHANNELS)
    stem = d.add("Relu", d.conv("x", d.constant(CHANNELS, 3, 3, 3), bias, strides=[2, 2]))
    block = d.add("Relu", d.conv(stem, d.constant(*square), bias))
    # Exporters name constants that are equal by Identity.
    same = d.add("Relu", d.conv(block, d.add("Identity", d.constant(*square))))
    wide = d.conv(same, d.constant(*square), bias, pad=2, dilations=[2, 2])
    # Both the sum and its ReLU are taken further, so the ReLU is no part of the layer.
    features = d.conv(d.add("Add", wide, block), d.constant(*square), bias, kernel_shape=[3, 3])
    level = d.add("Relu", features)
    shared = d.constant(*square)
    hidden = d.add("Relu", d.conv(features, shared, bias))
    again = d.add("Relu", d.conv(level, shared, bias))
    scores = d.conv(hidden, d.constant(3, CHANNELS, 1, 1), pad=0)
    grouped = d.conv(again, d.constant(CHANNELS, 12, 3, 3), group=2)
    shrunk = d.conv(again, d.constant(*square), pad=0)
    made = d.add("Mul", d.constant(*square), d.constant(1))
    computed = d.conv(again, made)
    last = d.conv(level, d.constant(5, CHANNELS, 3, 3), d.constant(5))
    outputs = [scores, level, again, grouped, shrunk, computed, last]
    return d.save(folder / "model.onnx", 3, outputs)


@pytest.mark.parametrize("threads", [1, 2])
def test_the_answers_stay(tmp_path: Path, threads: int) -> None:
    file = program(tmp_path)
    before = file.read_bytes()
    winograd = WinogradProgram(file, tmp_path, where_it_pays=False)
    images = [drawn(*shape) for shape in [(1, 3, 40, 52), (1, 3, 33, 9), (2, 3, 20, 20)]]
    assert_answers_stay(file, winograd, images, threads)
    assert (winograd.convolutions, winograd.others) == (6, 0)
    said = "Winograd's algorithm in 6 of its 6 3x3 convolutions and d2serve's own 1 of 1x1"
    assert str(winograd) == said
    assert file.read_bytes() == before


def test_no_images_and_no_pixels(tmp_path: Path) -> None:
    """As a mask head gets them where nothing was found."""
    d = Drawing()
    hidden = d.add("Relu", d.conv("x", d.constant(16, 8, 3, 3), d.constant(16)))
    end = d.conv(hidden, d.constant(4, 16, 3, 3))
    winograd = WinogradProgram(d.save(tmp_path / "m.onnx", 8, [end]), None, where_it_pays=False)
    ((found,),) = own_answers(winograd, [np.zeros((0, 8, 14, 14), np.float32)], 1)
    assert found.shape == (0, 4, 14, 14)


def test_images_that_do_not_fit_end_the_call_only(tmp_path: Path) -> None:
    d = Drawing()
    end = d.conv(d.add("Concat", "x", "x", axis=1), d.constant(16, 8, 3, 3))
    file = d.save(tmp_path / "m.onnx", "any", [end])
    own = options(1)
    winograd = WinogradProgram(file, None, where_it_pays=False)
    session = onnxruntime.InferenceSession(winograd.edited(own, 1), own)
    with pytest.raises(Exception, match="another number of channels"):
        session.run(None, {"x": drawn(1, 8, 6, 6)})
    with pytest.raises(Exception, match="cannot take images of this size"):
        session.run(None, {"x": drawn(1, 4, 0, 6)})
    (found,) = session.run(None, {"x": drawn(1, 4, 6, 6)})
    assert found.shape == (1, 16, 6, 6)


def test_one_set_of_convolutions_for_every_session(tmp_path: Path) -> None:
    """A session is made again for another number of threads."""
    winograd = WinogradProgram(program(tmp_path), tmp_path, where_it_pays=False)
    images = [drawn(1, 3, 40, 52)]
    (first,), (second,) = (own_answers(winograd, images, threads) for threads in (1, 2))
    for one, other in zip(first, second):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-4 * abs(one).max())
    assert len(winograd._layers._made) == 6


def test_layers_that_gain_nothing_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from d2serve.kernels import choosing

    monkeypatch.setattr(choosing, "ways", lambda: ("portable",))
    winograd = WinogradProgram(program(tmp_path), None, where_it_pays=True)
    own_answers(winograd, [drawn(1, 3, 8, 8)], 1)
    assert (winograd.convolutions, winograd.others) == (0, 6)
