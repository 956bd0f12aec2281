"""Rotated boxes come out as detectron2's ``RotatedBoxes`` has them; upright ones: see
test_postprocessing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from detectron2.modeling.postprocessing import detector_postprocess
from detectron2.structures import Instances, RotatedBoxes
from hypothesis import assume, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from d2serve.handlers.outputs.boxes import clipped, nonempty, scaled
from tests.handlers.samples import cases

Float32 = NDArray[np.float32]
MODE = "XYWHA_ABS"

# PyTorch and numpy have sines of their own, which differ in the last bit.
RELATIVE, ABSOLUTE = 2e-6, 2e-5
angles = st.one_of(
    st.sampled_from([0, 0.5, -0.5, 30, 45, 90, -90, 180, -180, 270, 359.5, 360, -720]),
    st.floats(-1000, 1000, width=32),
)
boxes = st.lists(
    st.tuples(
        st.floats(-50, 250, width=32),
        st.floats(-50, 250, width=32),
        st.one_of(st.just(0.0), st.floats(0, 300, width=32)),
        st.one_of(st.just(0.0), st.floats(0, 300, width=32)),
        angles,
    ),
    max_size=6,
).map(lambda rows: np.array(rows, np.float32).reshape(len(rows), 5))
edges = st.integers(1, 300)


def turned(degrees: Float32) -> Float32:
    """Angles as points on a circle, since -180 and 180 are the same."""
    radians = np.deg2rad(degrees.astype(np.float64))
    return np.stack([np.cos(radians), np.sin(radians)], axis=1).astype(np.float32)


def assert_close(got: Float32, expected: Float32) -> None:
    assert got.dtype == np.float32
    np.testing.assert_allclose(got[:, :4], expected[:, :4], rtol=RELATIVE, atol=ABSOLUTE)
    np.testing.assert_allclose(turned(got[:, 4]), turned(expected[:, 4]), atol=2e-6)


@cases(400)
@given(boxes, st.floats(0.1, 10), st.floats(0.1, 10))
def test_scaled(before: Float32, scale_x: float, scale_y: float) -> None:
    expected = RotatedBoxes(torch.from_numpy(before.copy()))
    expected.scale(scale_x, scale_y)
    kept = before.copy()
    assert_close(scaled(before, MODE, scale_x, scale_y), expected.tensor.numpy())
    np.testing.assert_array_equal(before, kept)


@cases(400)
@given(boxes, edges, edges)
def test_clipped(before: Float32, height: int, width: int) -> None:
    """There is no sine in it, so not a bit differs."""
    expected = RotatedBoxes(torch.from_numpy(before.copy()))
    expected.clip((height, width))
    got = clipped(before, MODE, height, width)
    np.testing.assert_array_equal(got, expected.tensor.numpy())
    assert nonempty(got, MODE).tolist() == expected.nonempty().nonzero()[:, 0].tolist()


@cases(400)
@given(boxes, edges, edges, edges, edges)
def test_as_detector_postprocess(
    before: Float32, height: int, width: int, resized_height: int, resized_width: int
) -> None:
    instances = Instances((resized_height, resized_width))
    instances.pred_boxes = RotatedBoxes(torch.from_numpy(before.copy()))
    expected = detector_postprocess(instances, height, width).pred_boxes.tensor.numpy()
    enlarged = scaled(before, MODE, width / resized_width, height / resized_height)
    # At the last bit of 1 degree, the two may not agree on whether a box is clipped.
    assume(not np.isclose(np.abs(enlarged[:, 4]), 1, atol=1e-4).any())
    got = clipped(enlarged, MODE, height, width)
    # Nor on whether a box is empty that but touches the edge of the image.
    assume(not ((got[:, 2:4] != 0) & (np.abs(got[:, 2:4]) < 1e-3)).any())
    kept = nonempty(got, MODE)
    assert len(kept) == len(expected)
    assert_close(got[kept], expected)


@pytest.mark.parametrize("mode", ["XYXY_ABS", MODE])
def test_no_boxes(mode: str) -> None:
    none = np.zeros((0, 5 if mode == MODE else 4), np.float32)
    assert clipped(scaled(none, mode, 2, 3), mode, 5, 5).shape == none.shape
    assert len(nonempty(none, mode)) == 0
