"""Pixels of any number of channels are resized as detectron2's own transform resizes them."""

from __future__ import annotations

import numpy as np
import pytest
from detectron2.data.transforms import ResizeTransform

from d2serve.handlers.requests.preprocessing import preprocess
from d2serve.handlers.requests.resizing import resized
from d2serve.handlers.spec.image_form import BANDS, GREY, RGBA
from tests.handlers.samples import spec_with

SIZES = [(40, 60, 33, 97), (100, 30, 7, 200), (5, 5, 5, 5), (1, 1, 4, 4), (90, 120, 180, 240)]


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_up_to_four_channels_are_the_same_bytes(
    channels: int, sizes: tuple[int, int, int, int]
) -> None:
    pixels = np.random.default_rng(channels).integers(0, 256, (*sizes[:2], channels), np.uint8)
    expected = ResizeTransform(*sizes).apply_image(pixels)
    made = resized(pixels, *sizes[2:])
    assert made.dtype == np.uint8
    np.testing.assert_array_equal(made, expected)


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("channels", [5, 8, 13])
def test_more_channels_are_the_same_floats_but_for_rounding(
    channels: int, sizes: tuple[int, int, int, int]
) -> None:
    """detectron2 fails on bytes of so many channels, and resizes floats."""
    pixels = np.random.default_rng(channels).integers(0, 256, (*sizes[:2], channels), np.uint8)
    with pytest.raises(TypeError):
        ResizeTransform(*sizes).apply_image(pixels)
    expected = ResizeTransform(*sizes).apply_image(pixels.astype(np.float32))
    np.testing.assert_allclose(resized(pixels, *sizes[2:]), expected, rtol=0, atol=2e-4)


@pytest.mark.parametrize(
    ("image_format", "channels"), [(GREY, 1), (BANDS, 2), (RGBA, 4), (BANDS, 4), (BANDS, 6)]
)
def test_the_tensor_has_the_channels_in_their_order(image_format: str, channels: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, channels), np.uint8)
    spec = spec_with(image_format=image_format, channels=channels, min_size_test=0)
    prepared = preprocess(pixels, spec)
    assert prepared.tensor.flags.c_contiguous
    assert prepared.resized == (20, 30)
    np.testing.assert_array_equal(prepared.tensor, pixels.transpose(2, 0, 1).astype(np.float32))
    small = preprocess(
        pixels, spec_with(image_format=image_format, channels=channels, min_size_test=10)
    )
    assert small.tensor.shape == (channels, 10, 15)
    assert small.tensor.dtype == np.float32
