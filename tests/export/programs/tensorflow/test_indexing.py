"""Elements are found, read and written as ONNX Runtime does it, where there are none too."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("d2serve.export.programs.tensorflow", reason="TensorFlow is not installed")

from d2serve.export.programs.tensorflow import indexing
from tests.export.programs.tensorflow.single_nodes import assert_same, drawn, whole

ASKED = (
    "Gather", "GatherElements", "GatherND", "ScatterND", "ScatterElements", "NonZero", "OneHot",
    "TopK", "ArgMax", "ArgMin",
)  # fmt: skip
IMAGES = (3, 4, 5, 6)
seeds = st.integers(0, 2**31)


def test_every_operator_of_the_table_is_asked() -> None:
    assert set(ASKED) == set(indexing.OPERATORS)


@settings(max_examples=20, deadline=None, derandomize=True)
@given(
    axis=st.integers(-4, 3), shape=st.sampled_from([(), (2,), (0,), (2, 2)]), seed=seeds,
    known=st.booleans(), last=st.booleans(),
)  # fmt: skip
def test_gather(axis: int, shape: tuple[int, ...], seed: int, known: bool, last: bool) -> None:
    indices = whole(seed, -IMAGES[axis], IMAGES[axis], *shape)
    assert_same(
        "Gather", [drawn(1, *IMAGES), np.asarray(indices)], {"axis": axis},
        known=(1,) if known else (), channels_last=(0,) if last else (),
    )  # fmt: skip


@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("rows", [0, 2])
def test_elements(axis: int, rows: int) -> None:
    shape = (rows, 2, 3)
    indices = whole(1, -3, 3, *shape)
    x, updates = drawn(2, 3, 3, 3), drawn(3, *shape)
    assert_same("GatherElements", [x, indices], {"axis": axis})
    unique = np.broadcast_to(np.arange(shape[axis]).reshape([-1 if axis % 3 == each else 1
                             for each in range(3)]), shape).copy()  # fmt: skip
    assert_same("ScatterElements", [x, unique, updates], {"axis": axis})
    assert_same("ScatterElements", [x, indices, updates], {"axis": axis, "reduction": "add"})


@pytest.mark.parametrize("count", [0, 5])
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_tuples(count: int, depth: int) -> None:
    x = drawn(1, *IMAGES)
    all_places = np.stack(np.meshgrid(*map(np.arange, IMAGES[:depth]), indexing="ij"), -1)
    places = np.random.default_rng(2).permutation(all_places.reshape(-1, depth))[:count]
    places[count // 2 :] -= IMAGES[:depth]  # from the end
    assert_same("GatherND", [x, places], tuples=(1,))
    for reduction in ("none", "add"):
        updates = drawn(3, len(places), *IMAGES[depth:])
        for last in ((), (0,), (0, 2) if updates.ndim == 4 and len(places) else ()):
            attributes = {"reduction": reduction}
            assert_same(
                "ScatterND", [x, places, updates], attributes, channels_last=last, tuples=(1,)
            )


def test_tuples_within_a_batch() -> None:
    assert_same(
        "GatherND", [drawn(1, 3, 4, 5), whole(2, -4, 4, 3, 2, 1)], {"batch_dims": 1}, tuples=(1,)
    )


@pytest.mark.parametrize("shape", [(0, 3), (4,), (2, 3, 4)])
@pytest.mark.parametrize("kind", ["bool", "int64", "float32"])
def test_what_is_not_zero(shape: tuple[int, ...], kind: str) -> None:
    assert_same("NonZero", [whole(1, 0, 2, *shape).astype(kind)])


@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("kind", ["float32", "int64"])
def test_one_hot(axis: int, kind: str) -> None:
    indices, values = whole(1, -7, 9, 3, 4), np.array([0, 1]).astype(kind)
    assert_same("OneHot", [indices, np.array(6), values], {"axis": axis})
    assert_same("OneHot", [indices[:0], np.array([6]), values], {"axis": axis}, known=(1, 2))


@settings(max_examples=15, deadline=None, derandomize=True)
@given(axis=st.integers(-2, 1), count=st.integers(0, 4), largest=st.booleans(), seed=seeds)
def test_top_k(axis: int, count: int, largest: bool, seed: int) -> None:
    """Of equal values the first comes first."""
    attributes: dict[str, Any] = {"axis": axis, "largest": int(largest)}
    for x in (drawn(seed, 4, 5), whole(seed, -2, 3, 4, 5).astype(np.float32)):
        assert_same("TopK", [x, np.array([count])], attributes, outputs=2)


@pytest.mark.parametrize("operator", ["ArgMax", "ArgMin"])
@pytest.mark.parametrize("axis", [0, -1])
@pytest.mark.parametrize("keep", [0, 1])
@pytest.mark.parametrize("last", [0, 1])
def test_places_of_extremes(operator: str, axis: int, keep: int, last: int) -> None:
    x = whole(1, 0, 3, 5, 6).astype(np.float32)
    assert_same(operator, [x], {"axis": axis, "keepdims": keep, "select_last_index": last})
