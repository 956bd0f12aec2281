"""The native 1x1 convolution answers the direct sum in float64, up to the rounding of float32."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from d2serve.kernels.library import KernelsError, library, ways
from d2serve.kernels.pointwise import Pointwise
from tests.kernels.direct import direct, drawn

pytestmark = pytest.mark.skipif(library() is None, reason="no native kernels are installed")

BOUND = 2e-6
"""Largest error, by the largest sum of the products' magnitudes: some 17 roundings of float32."""


def answer(
    convolution: Pointwise,
    images: NDArray[np.float32],
    residual: NDArray[np.float32] | None = None,
    threads: int = 1,
) -> NDArray[np.float32]:
    result = np.full(convolution.shape(images.shape), np.nan, np.float32)
    convolution(images, result, threads, residual)
    return result


@given(
    count=st.integers(0, 3),
    ins=st.one_of(st.integers(1, 20), st.sampled_from([127, 128, 129, 300])),
    outs=st.one_of(st.integers(1, 36), st.just(520)),
    height=st.integers(1, 21),
    width=st.one_of(st.integers(1, 21), st.sampled_from([47, 48, 49, 100])),
    stride=st.sampled_from([1, 2]),
    has_bias=st.booleans(),
    relu=st.booleans(),
    adding=st.sampled_from(["nothing", "all", "upsampled"]),
    seed=st.integers(0, 1000),
)
@settings(max_examples=60, deadline=None)
def test_every_way_answers_the_direct_sum(
    count: int,
    ins: int,
    outs: int,
    height: int,
    width: int,
    stride: int,
    has_bias: bool,
    relu: bool,
    adding: str,
    seed: int,
) -> None:
    if adding == "upsampled":
        height, width = 2 * stride * height, 2 * stride * width
    weights, images = drawn(seed, outs, ins, 1, 1), drawn(seed + 1, count, ins, height, width)
    bias = drawn(seed + 2, outs) if has_bias else None
    high, wide = -(-height // stride), -(-width // stride)
    residual, added = None, []
    if bias is not None:
        added.append(bias[:, None, None])
    if adding == "all":
        residual = drawn(seed + 3, count, outs, high, wide)
        added.append(residual)
    elif adding == "upsampled":
        residual = drawn(seed + 3, count, outs, high // 2, wide // 2)
        added.append(residual.repeat(2, axis=2).repeat(2, axis=3))
    expected = sum(added, direct(images, weights, None, False, stride))
    sizes = sum(map(abs, added), direct(abs(images), abs(weights), None, False, stride))
    expected = np.maximum(expected, 0) if relu else expected
    found = {}
    for way in ways():
        convolution = Pointwise(weights, bias, relu, stride, way, adding == "upsampled")
        one, three = (answer(convolution, images, residual, threads) for threads in (1, 3))
        np.testing.assert_allclose(one, expected, rtol=0, atol=BOUND * sizes.max(initial=0))
        assert one.tobytes() == three.tobytes()
        found[way] = one.tobytes()
    assert len({bits for way, bits in found.items() if way != "portable"}) <= 1


@pytest.mark.parametrize("way", ways())
def test_a_sum_over_many_channels_is_as_exact_as_over_few(way: str) -> None:
    weights, images = drawn(0, 16, 2048, 1, 1) / np.float32(np.sqrt(2048)), drawn(1, 1, 2048, 9, 34)
    found = answer(Pointwise(weights, None, False, way=way), images)
    difference = abs(found - direct(images, weights, None, False))
    assert difference.max() < 5e-6  # Where the outputs' standard deviation is 1.
    assert np.sqrt((difference**2).mean()) < 1e-6


@pytest.mark.parametrize("way", ways())
@pytest.mark.parametrize("poison", [np.nan, np.inf])
def test_what_is_no_number_spoils_its_pixel_and_no_other(way: str, poison: float) -> None:
    weights, images = drawn(0, 9, 3, 1, 1), drawn(1, 2, 3, 20, 20)
    convolution = Pointwise(weights, None, True, way=way)
    clean = answer(convolution, images)
    images[0, 1, 7, 5] = poison
    found = answer(convolution, images)
    expected = np.maximum(weights[:, 1, 0, 0] * np.float32(poison), 0)
    np.testing.assert_array_equal(found[0, :, 7, 5], expected)
    found[0, :, 7, 5] = clean[0, :, 7, 5]
    assert found.tobytes() == clean.tobytes()


def test_a_residual_may_be_the_result_itself() -> None:
    convolution = Pointwise(drawn(0, 20, 300, 1, 1), drawn(1, 20), True)
    images, residual = drawn(2, 1, 300, 9, 30), drawn(3, 1, 20, 9, 30)
    expected = answer(convolution, images, residual)
    convolution(images, residual, 2, residual)
    assert residual.tobytes() == expected.tobytes()


class TestRefusals:
    def test_weights_of_another_kernel_and_of_no_channels(self) -> None:
        for shape in [(4, 3, 3, 3), (4, 0, 1, 1)]:
            with pytest.raises(KernelsError, match=r"expected \(outs, ins, 1, 1\)"):
                Pointwise(np.zeros(shape, np.float32), None, False)

    def test_weights_that_do_not_lie_together(self) -> None:
        with pytest.raises(KernelsError, match=r"Got weights .* not contiguous"):
            Pointwise(drawn(0, 4, 6, 1, 1)[:, ::2], None, False)

    def test_another_stride(self) -> None:
        with pytest.raises(KernelsError, match="stride of 3; expected 1 or 2"):
            Pointwise(drawn(0, 4, 3, 1, 1), None, False, stride=3)

    def test_a_residual_of_another_size(self) -> None:
        convolution = Pointwise(drawn(0, 4, 3, 1, 1), None, False, stride=2)
        with pytest.raises(KernelsError, match="Got residual"):
            answer(convolution, drawn(0, 1, 3, 5, 5), drawn(0, 1, 4, 5, 5))

    def test_an_upsampled_residual_for_odd_sides(self) -> None:
        convolution = Pointwise(drawn(0, 4, 3, 1, 1), None, False, upsampled=True)
        with pytest.raises(KernelsError, match="bad shape"):
            answer(convolution, drawn(0, 1, 3, 5, 4), drawn(0, 1, 4, 2, 2))
