"""The program gets the very tensor that DefaultPredictor would give to the model."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from detectron2.data.transforms import ResizeShortestEdge
from detectron2.engine.defaults import DefaultPredictor
from hypothesis import assume, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from d2serve.handlers.requests.preprocessing import preprocess, resized_shape
from tests.handlers.samples import cases, picture, spec_with

# Cameras' and COCO's sizes, and the odd ones between.
edges = st.one_of(st.integers(1, 64), st.integers(1, 6000), st.sampled_from([427, 480, 640, 1080]))
min_sizes = st.one_of(st.integers(1, 1400), st.sampled_from([192, 320, 640, 800]))
max_sizes = st.one_of(st.integers(1, 2000), st.sampled_from([1333, 1024, 4000]))


def predictor_input(
    bgr: NDArray[np.uint8], image_format: str, min_size: int, max_size: int
) -> dict[str, Any]:
    """What DefaultPredictor's own code hands to the model."""
    stub = SimpleNamespace(
        input_format=image_format,
        aug=ResizeShortestEdge([min_size, min_size], max_size),
        cfg=SimpleNamespace(MODEL=SimpleNamespace(DEVICE="cpu")),
        model=lambda inputs: inputs,
    )
    taken: dict[str, Any] = DefaultPredictor.__call__(stub, bgr)
    return taken


@cases(1000)
@given(edges, edges, min_sizes, max_sizes)
def test_resized_shape(height: int, width: int, min_size: int, max_size: int) -> None:
    size = np.int64(min_size)  # as ResizeShortestEdge draws it
    wanted = ResizeShortestEdge.get_output_shape(height, width, size, max_size)
    got = resized_shape(height, width, min_size, max_size)
    assert all(type(edge) is int for edge in got)
    assert got == tuple(max(edge, 1) for edge in wanted)


@cases(100)
@given(edges, edges, max_sizes)
def test_min_size_0_keeps_the_size(height: int, width: int, max_size: int) -> None:
    assert resized_shape(height, width, 0, max_size) == (height, width)


@cases(150)
@given(
    st.integers(1, 90),
    st.integers(1, 90),
    st.one_of(st.just(0), st.integers(1, 120)),
    st.integers(1, 160),
    st.sampled_from(["BGR", "RGB"]),
    st.integers(0, 3),
)
def test_the_tensor_is_default_predictors(
    height: int, width: int, min_size: int, max_size: int, image_format: str, seed: int
) -> None:
    # detectron2 fails where it rounds to no pixels
    assume(min_size == 0 or min(_detectron2_shape(height, width, min_size, max_size)) > 0)
    rgb = np.asarray(picture(width, height, seed=seed))
    spec = spec_with(min_size_test=min_size, max_size_test=max_size, image_format=image_format)
    prepared = preprocess(rgb, spec)
    expected = predictor_input(rgb[:, :, ::-1], image_format, min_size, max_size)

    assert prepared.tensor.dtype == np.float32
    assert prepared.tensor.flags.c_contiguous
    np.testing.assert_array_equal(prepared.tensor, expected["image"].numpy())
    assert (prepared.height, prepared.width) == (expected["height"], expected["width"])
    assert prepared.resized == tuple(expected["image"].shape[1:])


def _detectron2_shape(height: int, width: int, min_size: int, max_size: int) -> tuple[int, int]:
    shape: tuple[int, int] = ResizeShortestEdge.get_output_shape(height, width, min_size, max_size)
    return shape


@pytest.mark.parametrize("image_format", ["BGR", "RGB"])
@pytest.mark.parametrize(("height", "width"), [(480, 640), (641, 427), (1, 900), (2000, 3), (9, 9)])
def test_at_the_sizes_of_the_model_zoo(height: int, width: int, image_format: str) -> None:
    rgb = np.asarray(picture(width, height))
    spec = spec_with(min_size_test=800, max_size_test=1333, image_format=image_format)
    expected = predictor_input(rgb[:, :, ::-1], image_format, 800, 1333)["image"].numpy()
    np.testing.assert_array_equal(preprocess(rgb, spec).tensor, expected)


@pytest.mark.parametrize(("height", "width"), [(1, 90_000), (90_000, 1)])
def test_an_extreme_shape_on_which_detectron2_fails_is_answered(height: int, width: int) -> None:
    assert min(_detectron2_shape(height, width, 800, 1333)) == 0
    pixels = np.full((height, width, 3), 7, np.uint8)
    prepared = preprocess(pixels, spec_with(min_size_test=800, max_size_test=1333))
    assert sorted(prepared.resized) == [1, 1333]
    assert (prepared.tensor == 7).all()


def test_the_image_that_was_given_stays_as_it_was() -> None:
    pixels = np.asarray(picture(20, 10)).copy()
    before = pixels.copy()
    prepared = preprocess(pixels, spec_with(min_size_test=0))
    prepared.tensor[:] = 0
    np.testing.assert_array_equal(pixels, before)
