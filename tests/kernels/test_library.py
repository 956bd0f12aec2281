"""The native convolution answers the direct sum in float64, up to the rounding of float32."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from d2serve.kernels.library import (
    WAYS,
    Convolution,
    library,
    ways,
)
from tests.kernels.direct import direct

pytestmark = pytest.mark.skipif(library() is None, reason="no native kernels are installed")

BOUND = 2e-5
"""Largest error, by the largest sum of the products' magnitudes: some 170 roundings of float32."""


def drawn(seed: int, *shape: int) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def layer(seed: int, outs: int, ins: int) -> NDArray[np.float32]:
    return drawn(seed, outs, ins, 3, 3) / np.float32(np.sqrt(9 * ins))


def answer(
    convolution: Convolution, images: NDArray[np.float32], threads: int = 1
) -> NDArray[np.float32]:
    shape = (len(images), convolution.outs, *images.shape[2:])
    result = np.full(shape, np.nan, np.float32)
    convolution(images, result, threads)
    return result


def test_the_fastest_way_comes_last_and_the_portable_one_is_everywhere() -> None:
    assert ways()[0] == "portable"
    assert list(ways()) == sorted(ways(), key=WAYS.index)


@given(
    count=st.integers(0, 5),
    ins=st.one_of(st.integers(1, 20), st.sampled_from([63, 64, 65, 130])),
    outs=st.integers(1, 36),
    height=st.integers(1, 21),
    width=st.one_of(st.integers(1, 21), st.sampled_from([96, 97, 98, 200])),
    has_bias=st.booleans(),
    relu=st.booleans(),
    zero_rows=st.booleans(),
    seed=st.integers(0, 1000),
)
@settings(max_examples=80, deadline=None)
def test_every_way_answers_the_direct_sum(
    count: int,
    ins: int,
    outs: int,
    height: int,
    width: int,
    has_bias: bool,
    relu: bool,
    zero_rows: bool,
    seed: int,
) -> None:
    weights, images = layer(seed, outs, ins), drawn(seed, count, ins, height, width)
    if zero_rows:
        images[:, :, ::2] = 0
    bias = drawn(seed + 1, outs) if has_bias else None
    expected = direct(images, weights, bias, relu)
    largest = BOUND * direct(abs(images), abs(weights), None, False).max(initial=0)
    found = {
        way: [
            answer(Convolution.of(weights, bias, relu, way), images, threads) for threads in (1, 3)
        ]
        for way in ways()
    }
    for one, three in found.values():
        np.testing.assert_allclose(one, expected, rtol=0, atol=largest)
        assert one.tobytes() == three.tobytes()
    vectors = [each[0].tobytes() for way, each in found.items() if way != "portable"]
    assert len(set(vectors)) <= 1
