"""Shapes are made, changed and cut as ONNX Runtime does it, of tensors without elements too."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("d2serve.export.programs.tensorflow", reason="TensorFlow is not installed")

from d2serve.export.programs.tensorflow import shapes, slicing
from tests.export.programs.tensorflow.single_nodes import assert_same, drawn, whole

ASKED = (
    "Shape", "Size", "Reshape", "Flatten", "Unsqueeze", "Squeeze", "Transpose", "Expand", "Tile",
    "ConstantOfShape", "Range", "Concat", "Split", "Slice", "Pad",
)  # fmt: skip
IMAGES = (2, 3, 4, 5)
seeds = st.integers(0, 2**31)
some_shapes = st.lists(st.integers(0, 4), min_size=1, max_size=4)


def integers(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def test_every_operator_of_the_tables_is_asked() -> None:
    assert set(ASKED) == {*shapes.OPERATORS, *slicing.OPERATORS}


@pytest.mark.parametrize("operator", ["Shape", "Size"])
@pytest.mark.parametrize("shape", [(), (0, 3), IMAGES])
def test_shape_and_size(operator: str, shape: tuple[int, ...]) -> None:
    assert_same(operator, [drawn(1, *shape)])
    if len(shape) == 4:
        assert_same(operator, [drawn(1, *shape)], channels_last=(0,))


def test_part_of_a_shape() -> None:
    for window in ({"start": 1}, {"start": -2}, {"start": 1, "end": 3}, {"start": 0, "end": -1}):
        assert_same("Shape", [drawn(1, *IMAGES)], window)
        assert_same("Shape", [drawn(1, *IMAGES)], window, channels_last=(0,))


@pytest.mark.parametrize(
    ("shape", "wanted"),
    [
        ((2, 3, 4), (6, 4)),
        ((2, 3, 4), (-1, 2)),
        ((2, 3, 4), (0, -1)),
        ((2, 3, 4), (0, 0, 2, 2)),
        ((0, 3, 4), (-1, 12)),
        ((0, 3, 4), (0, 12)),
        ((1,), ()),
        (IMAGES, (2, -1)),
    ],
)
@pytest.mark.parametrize("known", [(), (1,)])
def test_reshape(shape: tuple[int, ...], wanted: tuple[int, ...], known: tuple[int, ...]) -> None:
    if not known and 0 in wanted and 0 not in shape:
        pytest.skip("a zero that is computed is a size: ONNX Runtime takes it for 'as it was'")
    last = (0,) if shape == IMAGES else ()
    assert_same("Reshape", [drawn(1, *shape), integers(*wanted)], {}, known, last)


@pytest.mark.parametrize("axis", range(-3, 5))
@pytest.mark.parametrize("last", [(), (0,)])
def test_flatten(axis: int, last: tuple[int, ...]) -> None:
    assert_same("Flatten", [drawn(1, *IMAGES)], {"axis": axis}, channels_last=last)


@pytest.mark.parametrize("axes", [(0,), (-1,), (1, 3), (-1, 0)])
def test_unsqueeze(axes: tuple[int, ...]) -> None:
    assert_same("Unsqueeze", [drawn(1, 3, 4), integers(*axes)], known=(1,))
    assert_same("Unsqueeze", [drawn(1), integers(0)], known=(1,))


@pytest.mark.parametrize("axes", [(0,), (-1,), (0, 2), None])
def test_squeeze(axes: tuple[int, ...] | None) -> None:
    given_axes = [] if axes is None else [integers(*axes)]
    assert_same("Squeeze", [drawn(1, 1, 0 if axes else 3, 1), *given_axes], known=(1,))


@settings(max_examples=12, deadline=None, derandomize=True)
@given(order=st.permutations(range(4)), last=st.booleans())
def test_transpose(order: list[int], last: bool) -> None:
    channels_last = (0,) if last else ()
    assert_same("Transpose", [drawn(1, *IMAGES)], {"perm": order}, channels_last=channels_last)


def test_transpose_turns_all_around_where_nothing_is_said() -> None:
    assert_same("Transpose", [drawn(1, 2, 3, 4)])


@settings(max_examples=8, deadline=None, derandomize=True)
@given(shape=some_shapes, ones=st.lists(st.booleans(), min_size=4, max_size=4), seed=seeds)
def test_expand(shape: list[int], ones: list[bool], seed: int) -> None:
    given_shape = [1 if one else size for size, one in zip(shape, ones)]
    assert_same("Expand", [drawn(seed, *given_shape), integers(*shape)])
    assert_same("Expand", [drawn(seed, *shape), integers(1)], known=(1,))


def test_tile() -> None:
    assert_same("Tile", [drawn(1, 2, 3), integers(2, 0)])
    assert_same("Tile", [drawn(1, 2, 3), integers(2, 3)], known=(1,))


def test_constants_of_a_shape() -> None:
    from onnx import helper

    for kind, value in ((7, 3), (1, 0.5), (9, True)):
        attributes = {"value": helper.make_tensor("v", kind, [1], [value])}
        assert_same("ConstantOfShape", [integers(2, 0, 3)], attributes)
        assert_same("ConstantOfShape", [integers(2, 3)], attributes, known=(0,))


@pytest.mark.parametrize("steps", [(0, 5, 1), (7, 1, -2), (3, 3, 1), (0, 9, 4)])
@pytest.mark.parametrize("dtype", ["int64", "float32"])
def test_range(steps: tuple[int, int, int], dtype: str) -> None:
    assert_same("Range", [np.array(each, dtype) for each in steps])


@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("last", [(), (0,), (0, 1)])
def test_concat(axis: int, last: tuple[int, ...]) -> None:
    other = list(IMAGES)
    other[axis] = 6
    given_all = [drawn(1, *IMAGES), drawn(2, *other)]
    assert_same("Concat", given_all, {"axis": axis}, channels_last=last)


def test_concat_with_nothing() -> None:
    assert_same("Concat", [drawn(1, 0, 4), drawn(2, 3, 4), drawn(3, 0, 4)], {"axis": 0})


@pytest.mark.parametrize("last", [(), (0,)])
def test_split(last: tuple[int, ...]) -> None:
    x = drawn(1, *IMAGES)
    for axis, parts in ((1, (1, 2)), (2, (4, 0)), (-1, (2, 3))):
        given_all = [x, integers(*parts)]
        for known in ((), (1,)):
            assert_same("Split", given_all, {"axis": axis}, known, last, outputs=2)
    assert_same("Split", [x], {"axis": 2}, channels_last=last, outputs=2)


far = st.sampled_from([-(2**63), -(2**31), -7, -3, -1, 0, 1, 2, 5, 2**31, 2**63 - 1])


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    start=far, end=far, step=st.sampled_from([1, 2, -1, -2]), axis=st.integers(-4, 3),
    known=st.booleans(), last=st.booleans(),
)  # fmt: skip
def test_slice(start: int, end: int, step: int, axis: int, known: bool, last: bool) -> None:
    if step < 0:
        start = max(start, -1)  # backwards from before the beginning: ONNX has a rule of its own
    assert_same(
        "Slice",
        [drawn(1, *IMAGES), integers(start), integers(end), integers(axis), integers(step)],
        known=(1, 2, 3, 4) if known else (3, 4),
        channels_last=(0,) if last else (),
    )


def test_slice_of_all_axes() -> None:
    assert_same("Slice", [drawn(1, 4, 5), integers(1, 0), integers(3, -1)], known=(1, 2))


@settings(max_examples=15, deadline=None, derandomize=True)
@given(
    around=st.lists(st.integers(-1, 2), min_size=8, max_size=8),
    mode=st.sampled_from(["constant", "reflect", "edge"]),
    known=st.booleans(), last=st.booleans(),
)  # fmt: skip
def test_pad(around: list[int], mode: str, known: bool, last: bool) -> None:
    if mode == "reflect":  # ONNX Runtime and TensorFlow agree on what there is to reflect
        around = [max(each, 0) for each in around]
        around[0] = around[4] = 0
    more: list[Any] = [np.asarray(0.5, np.float32)] if mode == "constant" else []
    assert_same(
        "Pad",
        [drawn(1, 2, 3, 4, 5), integers(*around), *more],
        {"mode": mode},
        known=(1,) if known else (),
        channels_last=(0,) if last else (),
    )


def test_pad_with_nothing_said_is_with_zeros() -> None:
    assert_same("Pad", [whole(1, 0, 9, 2, 3), integers(0, 1, 2, 0)])
