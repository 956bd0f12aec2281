"""The run lengths are, byte for byte, those of pycocotools' encode."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from d2serve.handlers.outputs.rle import Rle, encode_transitions, encode_whole, run_lengths
from tests.handlers.samples import cases, coco_rles

Masks = NDArray[np.bool_]


def transitions_of(masks: Masks) -> NDArray[np.int64]:
    """By definition: where a value differs from the one before it, the first from zero."""
    places = []
    for number, mask in enumerate(masks):
        down_the_columns = mask.T.ravel().astype(np.int8)
        changes = np.flatnonzero(np.diff(down_the_columns, prepend=0))
        places.append(number * (mask.size + 1) + changes)
    return np.concatenate([np.zeros(0, np.int64), *places])


@st.composite
def masks_of_one_size(draw: st.DrawFn) -> Masks:
    shape = (draw(st.integers(0, 5)), draw(st.integers(1, 12)), draw(st.integers(1, 12)))
    fill = draw(st.sampled_from([st.booleans(), st.just(True), st.just(False)]))
    return draw(hnp.arrays(np.bool_, shape, elements=fill))


@cases(600)
@given(masks_of_one_size(), st.lists(st.floats(0, 1), max_size=6), st.booleans())
@example(np.ones((3, 1, 1), np.bool_), [], False)
@example(np.ones((3, 4, 4), np.bool_), [1.0], True)
@example(np.stack([np.eye(4, dtype=np.bool_)] * 3), [0.0, 0.0], True)
def test_as_pycocotools(masks: Masks, pairs: list[float], ends: bool) -> None:
    transitions = transitions_of(masks)
    places = len(masks) * (masks[0].size + 1) if len(masks) else 0
    if places:  # transitions that undo each other, anywhere
        twice = [int(pair * (places - 1)) for pair in pairs] * 2
        transitions = np.sort(np.concatenate([transitions, np.array(twice, np.int64)]))
    if ends:  # runs that last to the end, said to end there
        size = masks[0].size if len(masks) else 0
        last = [i * (size + 1) + size for i, mask in enumerate(masks) if mask[-1, -1]]
        transitions = np.sort(np.concatenate([transitions, np.array(last, np.int64)]))
    assert list(encode_transitions(transitions, *masks.shape)) == coco_rles(masks)
    assert list(encode_whole(masks)) == coco_rles(masks)


@cases(300)
@given(
    st.lists(
        st.lists(st.one_of(st.integers(1, 70), st.integers(1, 2**24)), max_size=9),
        min_size=1,
        max_size=4,
    ),
    st.integers(0, 1),
)
def test_run_lengths_of_every_magnitude(runs: list[list[int]], start: int) -> None:
    height, width = 9999, 9999
    transitions, expected = [], []
    for number, lengths in enumerate(runs):
        lengths = [0, *lengths] if start and lengths else lengths
        borders = np.cumsum(np.array(lengths, np.int64))
        transitions.append(number * (height * width + 1) + borders)
        counts = [*lengths, height * width - sum(lengths)]
        plain = {"size": [height, width], "counts": counts}
        packed = coco_mask.frPyObjects(plain, height, width)
        expected.append({"size": [height, width], "counts": packed["counts"].decode()})
    got = encode_transitions(np.concatenate(transitions).astype(np.int64), len(runs), height, width)
    assert list(got) == expected


@pytest.mark.parametrize("count", [0, 3])
def test_empty_masks(count: int) -> None:
    masks = np.zeros((count, 5, 7), np.bool_)
    assert list(encode_transitions(np.zeros(0, np.int64), count, 5, 7)) == coco_rles(masks)


@cases(300)
@given(st.lists(st.one_of(st.integers(1, 70), st.integers(1, 2**24)), max_size=12), st.booleans())
def test_run_lengths_are_read_back(lengths: list[int], starts_with_one: bool) -> None:
    counts = [0, *lengths] if starts_with_one or not lengths else lengths
    plain = {"size": [sum(counts), 1], "counts": counts}
    packed = coco_mask.frPyObjects(plain, sum(counts), 1)
    rle = Rle(size=[sum(counts), 1], counts=packed["counts"].decode())
    assert run_lengths(rle).tolist() == counts
