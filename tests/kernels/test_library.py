"""The native convolution answers the direct sum in float64, up to the rounding of float32."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from d2serve.kernels.library import WAYS, KernelsError, library, ways
from d2serve.kernels.winograd import Convolution, transform, transformed_size
from tests.kernels.direct import direct, drawn

pytestmark = pytest.mark.skipif(library() is None, reason="no native kernels are installed")

BOUND = 2e-5
"""Largest error, by the largest sum of the products' magnitudes: some 170 roundings of float32."""


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
@settings(max_examples=60, deadline=None)
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


@pytest.mark.parametrize("way", ways())
def test_a_sum_over_many_channels_is_as_exact_as_over_few(way: str) -> None:
    weights, images = layer(0, 16, 512), drawn(1, 1, 512, 25, 34)
    found = answer(Convolution.of(weights, None, False, way), images)
    difference = abs(found - direct(images, weights, None, False))
    assert difference.max() < 1e-4  # Where the outputs' standard deviation is 1.
    assert np.sqrt((difference**2).mean()) < 6e-6


@pytest.mark.parametrize("shape", [(1, 2, 1, 20_011), (1, 2, 20_011, 1), (3001, 2, 3, 2)])
def test_long_images_and_many(shape: tuple[int, int, int, int]) -> None:
    weights, images = layer(0, 3, 2), drawn(1, *shape)
    found = answer(Convolution.of(weights, None, False), images, threads=2)
    np.testing.assert_allclose(found, direct(images, weights, None, False), rtol=0, atol=1e-4)


@pytest.mark.parametrize("way", ways())
@pytest.mark.parametrize("poison", [np.nan, np.inf])
def test_what_is_no_number_spoils_the_tiles_that_see_it_and_no_other(
    way: str, poison: float
) -> None:
    weights, images = layer(0, 4, 3), drawn(1, 2, 3, 60, 60)
    convolution = Convolution.of(weights, None, True, way)
    clean = answer(convolution, images)
    images[0, 1, 20, 20] = poison
    found = answer(convolution, images)
    # The tile of rows and columns 18 to 23 has it inside, and no other window reaches it.
    spoilt = np.zeros(found.shape, bool)
    spoilt[0, :, 18:24, 18:24] = True
    assert np.isnan(found[0, :, 19:22, 19:22]).all()
    assert found[~spoilt].tobytes() == clean[~spoilt].tobytes()


def test_threads_may_share_a_convolution() -> None:
    weights = layer(0, 40, 30)
    convolution = Convolution.of(weights, drawn(2, 40), True)
    images = [drawn(seed, 1, 30, 20 + seed, 33) for seed in range(12)]
    alone = [answer(convolution, each).tobytes() for each in images]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda each: answer(convolution, each, 3).tobytes(), images * 3))
    assert together == alone * 3


def test_a_forked_process_has_threads_of_its_own() -> None:
    convolution = Convolution.of(layer(0, 40, 30), None, False)
    images = drawn(1, 1, 30, 50, 50)
    expected = answer(convolution, images, 3).tobytes()
    child = os.fork()
    if child == 0:
        os._exit(0 if answer(convolution, images, 3).tobytes() == expected else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_transformed_weights_may_be_mapped_from_a_file(tmp_path: Path) -> None:
    weights, images = layer(0, 9, 70), drawn(1, 2, 70, 9, 9)
    file = tmp_path / "weights"
    transform(weights).tofile(file)
    mapped = np.memmap(file, np.float32, mode="r")
    assert mapped.size == transformed_size(9, 70) == 64 * 70 * 16
    found = answer(Convolution.of(weights, None, False, transformed=mapped), images)
    expected = answer(Convolution.of(weights, None, False), images)
    assert found.tobytes() == expected.tobytes()


class TestRefusals:
    def test_weights_of_another_kernel(self) -> None:
        with pytest.raises(KernelsError, match=r"\(4, 3, 5, 5\); expected \(outs, ins, 3, 3\)"):
            transform(np.zeros((4, 3, 5, 5), np.float32))

    @pytest.mark.parametrize("shape", [(4, 0, 3, 3), (0, 4, 3, 3)])
    def test_no_channels(self, shape: tuple[int, int, int, int]) -> None:
        with pytest.raises(KernelsError, match="at least one of each"):
            transform(np.zeros(shape, np.float32))

    def test_a_file_of_another_layer(self) -> None:
        with pytest.raises(KernelsError, match="another layer or was cut off"):
            Convolution.of(layer(0, 8, 3), None, False, transformed=transform(layer(0, 8, 4)))

    def test_a_way_that_is_not_there(self) -> None:
        with pytest.raises(KernelsError, match="expected one of"):
            Convolution.of(layer(0, 8, 3), None, False, way="abacus")

    def test_a_bias_for_other_outputs(self) -> None:
        with pytest.raises(KernelsError, match="bias"):
            Convolution.of(layer(0, 8, 3), drawn(0, 7), False)

    def test_images_of_other_channels_and_results_of_another_size(self) -> None:
        convolution = Convolution.of(layer(0, 8, 3), None, False)
        with pytest.raises(KernelsError, match="Got images"):
            answer(convolution, drawn(0, 1, 4, 5, 5))
        with pytest.raises(KernelsError, match="Got result"):
            convolution(drawn(0, 1, 3, 5, 5), np.empty((1, 8, 5, 6), np.float32))
        with pytest.raises(KernelsError, match="not contiguous"):
            answer(convolution, drawn(0, 1, 3, 5, 10)[..., ::2])

    def test_images_without_pixels(self) -> None:
        with pytest.raises(KernelsError, match="bad shape"):
            answer(Convolution.of(layer(0, 8, 3), None, False), drawn(0, 1, 3, 0, 5))
