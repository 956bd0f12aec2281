"""Label maps are those of detectron2's ``sem_seg_postprocess`` and ``argmax``."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest
import torch
from detectron2.modeling.postprocessing import sem_seg_postprocess
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from d2serve.handlers.errors import ModelFailed
from d2serve.handlers.outputs import semantic
from d2serve.handlers.outputs.semantic import label_map
from tests.handlers.samples import cases

Float32 = NDArray[np.float32]


def blobs(classes: int, height: int, width: int, seed: int, cell: int = 8) -> Float32:
    """Logits as a semantic head gives them: smooth, each class in regions of its own."""
    generator = np.random.default_rng(seed)
    coarse = generator.normal(0, 5, (1, classes, height // cell + 2, width // cell + 2))
    smooth = torch.nn.functional.interpolate(
        torch.from_numpy(coarse.astype(np.float32)), size=(height, width), mode="bicubic"
    )
    return smooth[0].numpy()


def assert_as_detectron2(
    logits: Float32, resized: tuple[int, int], height: int, width: int
) -> None:
    got = label_map(logits, resized, height, width)
    enlarged = sem_seg_postprocess(torch.from_numpy(logits), resized, height, width)
    highest, expected = enlarged.max(0)[0].numpy(), enlarged.argmax(0).numpy()
    assert got.shape == (height, width)
    assert got.dtype == np.int32
    assert got.flags.c_contiguous
    # Rounding may decide between two classes whose logits are as good as equal.
    chosen = np.take_along_axis(enlarged.numpy(), got[None].astype(np.int64), axis=0)[0]
    rounding = 1e-4 * np.abs(highest) + 1e-6 * np.abs(enlarged.numpy()).max()
    assert (chosen >= highest - rounding)[got != expected].all()


@st.composite
def logits_and_sizes(draw: st.DrawFn) -> tuple[Float32, tuple[int, int], int, int]:
    classes = draw(st.sampled_from([1, 2, 3, 19, 54, 256, 257, 300]))
    edges = st.integers(1, 40) if classes < 60 else st.integers(1, 8)
    resized = draw(st.tuples(edges, edges))
    padding = draw(st.tuples(st.integers(0, 5), st.integers(0, 5)))
    shape = (classes, resized[0] + padding[0], resized[1] + padding[1])
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    kind = draw(st.sampled_from(["blobs", "noise", "ties", "constant"]))
    logits: NDArray[Any]
    if kind == "blobs":
        logits = blobs(*shape, seed=int(generator.integers(1 << 30)), cell=4)
    elif kind == "noise":
        logits = generator.normal(0, 3, shape)
    elif kind == "ties":
        logits = generator.integers(-1, 2, shape)
    else:
        logits = np.full(shape, draw(st.floats(-9, 9, width=32)))
    padded = logits.astype(np.float32)
    # What is in the padding must not be seen.
    padded[:, resized[0] :], padded[:, :, resized[1] :] = 1e9, 1e9
    sent = st.one_of(st.integers(1, 90), st.sampled_from(resized))
    return padded, resized, draw(sent), draw(sent)


@cases(400)
@given(logits_and_sizes())
def test_any_logits_and_sizes(case: tuple[Float32, tuple[int, int], int, int]) -> None:
    assert_as_detectron2(*case)


@pytest.mark.parametrize("sent", [(1080, 1440), (480, 640), (97, 1003), (800, 1066)])
def test_a_photograph(sent: tuple[int, int]) -> None:
    logits = blobs(21, 800, 1088, seed=sent[0], cell=40)
    assert_as_detectron2(logits, (800, 1066), *sent)


def test_without_ties_every_label_is_the_same() -> None:
    logits = np.random.default_rng(3).normal(0, 3, (9, 60, 70)).astype(np.float32)
    enlarged = sem_seg_postprocess(torch.from_numpy(logits), (59, 70), 101, 93)
    np.testing.assert_array_equal(label_map(logits, (59, 70), 101, 93), enlarged.argmax(0).numpy())


@pytest.mark.parametrize("sent", [(2, 2), (5, 7)])
def test_of_equal_classes_the_first(sent: tuple[int, int]) -> None:
    logits = np.zeros((4, 2, 2), np.float32)
    logits[1:3] = 1
    assert np.unique(label_map(logits, (2, 2), *sent)).tolist() == [1]


def test_a_class_that_is_highest_between_cells_only() -> None:
    """Neither corner's class wins in the middle, but the one that is second at both."""
    logits = np.array([[[5, 0]], [[4, 4]], [[0, 5]]], np.float32)
    assert label_map(logits, (1, 2), 1, 9)[0].tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert_as_detectron2(logits, (1, 2), 1, 9)


def test_work_in_portions_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    logits = blobs(7, 40, 50, seed=1)
    whole = label_map(logits, (37, 50), 71, 90)
    monkeypatch.setattr(semantic, "_PIXELS_AT_ONCE", 120)
    monkeypatch.setattr(semantic, "_LOGITS_AT_ONCE", 20)
    np.testing.assert_array_equal(label_map(logits, (37, 50), 71, 90), whole)


def test_the_logits_are_left_as_they_are() -> None:
    logits = blobs(5, 20, 20, seed=2)
    before = logits.copy()
    label_map(logits, (20, 20), 31, 33)
    np.testing.assert_array_equal(logits, before)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_logits_that_are_no_numbers(value: float) -> None:
    logits = np.zeros((3, 8, 8), np.float32)
    logits[1, 5, 6] = value
    with pytest.raises(ModelFailed, match="sem_seg that is infinite or not a number"):
        label_map(logits, (8, 8), 20, 20)


def test_memory_does_not_grow_with_the_classes() -> None:
    logits = blobs(60, 200, 300, seed=5, cell=20)
    tracemalloc.start()
    label_map(logits, (200, 300), 800, 1200)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 800 * 1200 * 60 * 4 / 10
