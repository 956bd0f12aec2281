"""What is computed for each element alone is what ONNX Runtime computes, broadcast as it does."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("d2serve.export.programs.tensorflow", reason="TensorFlow is not installed")

from d2serve.export.programs.tensorflow import elementwise
from tests.export.programs.tensorflow.single_nodes import assert_same, drawn, whole

OF_ONE = (
    "Abs", "Neg", "Sign", "Floor", "Ceil", "Round", "Exp", "Erf", "Sin", "Cos", "Tan", "Atan",
    "Tanh", "Sigmoid", "Softplus", "Softsign", "Relu", "HardSwish", "IsNaN", "Identity",
)  # fmt: skip
POSITIVE = ("Sqrt", "Log", "Reciprocal")
WITHIN_ONE = ("Asin", "Acos")
WITH_ATTRIBUTES = {
    "LeakyRelu": {"alpha": 0.2},
    "Elu": {"alpha": 0.7},
    "HardSigmoid": {"alpha": 0.25, "beta": 0.4},
}
OF_TWO = ("Add", "Sub", "Mul", "Div", "Max", "Min", "Sum", "PRelu")
COMPARED = ("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual")
LOGICAL = ("And", "Or", "Xor")
OTHERS = ("Not", "Pow", "Mod", "Where", "Clip", "Cast", "Dropout")

seeds = st.integers(0, 2**31)
sizes = st.integers(0, 4)


@st.composite
def broadcast_shapes(draw: st.DrawFn) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """A shape, and another one whose axes are missing, 1 or the same."""
    shape = tuple(draw(st.lists(sizes, min_size=1, max_size=5)))
    other = tuple(size if draw(st.booleans()) else 1 for size in shape)
    return shape, other[draw(st.integers(0, len(shape))) :]


def test_every_operator_of_the_table_is_asked() -> None:
    asked = (*OF_ONE, *POSITIVE, *WITHIN_ONE, *WITH_ATTRIBUTES, *OF_TWO, *COMPARED, *LOGICAL)
    assert {*asked, *OTHERS} == set(elementwise.OPERATORS)


@pytest.mark.parametrize("operator", OF_ONE)
@settings(max_examples=3, deadline=None, derandomize=True)
@given(shape=st.lists(sizes, max_size=4), seed=seeds)
def test_of_one_tensor(operator: str, shape: list[int], seed: int) -> None:
    assert_same(operator, [drawn(seed, *shape)])


@pytest.mark.parametrize("operator", ["Floor", "Round", "Relu", "Abs"])
def test_halves_and_zeros(operator: str) -> None:
    x = np.array([-2.5, -1.5, -0.5, -0.0, 0.0, 0.5, 1.5, 2.5, np.inf, -np.inf], np.float32)
    assert_same(operator, [x])


@pytest.mark.parametrize("operator", [*POSITIVE, *WITHIN_ONE])
def test_of_part_of_the_numbers(operator: str) -> None:
    x = np.abs(drawn(1, 3, 4)) + 0.01
    assert_same(operator, [x if operator in POSITIVE else x / x.max()])


@pytest.mark.parametrize(("operator", "attributes"), WITH_ATTRIBUTES.items())
def test_with_attributes(operator: str, attributes: dict[str, float]) -> None:
    assert_same(operator, [drawn(2, 3, 4)], attributes)


@pytest.mark.parametrize("operator", OF_TWO)
@settings(max_examples=4, deadline=None, derandomize=True)
@given(shapes=broadcast_shapes(), seed=seeds)
def test_of_two_tensors(
    operator: str, shapes: tuple[tuple[int, ...], tuple[int, ...]], seed: int
) -> None:
    assert_same(operator, [drawn(seed, *shapes[0]), drawn(seed + 1, *shapes[1])])


@pytest.mark.parametrize("operator", [*COMPARED, "Add", "Sub", "Mul", "Div", "Mod", "Max"])
def test_of_whole_numbers(operator: str) -> None:
    x, y = whole(3, -9, 9, 5, 6), whole(4, 1, 4, 6) * np.where(whole(5, 0, 2, 6), 1, -1)
    assert_same(operator, [x, y])


@pytest.mark.parametrize("operator", LOGICAL)
def test_of_truths(operator: str) -> None:
    assert_same(operator, [whole(6, 0, 2, 4, 5) == 1, whole(7, 0, 2, 5) == 1])


def test_not() -> None:
    assert_same("Not", [whole(6, 0, 2, 4, 5) == 1])


def test_remainders_as_in_c() -> None:
    assert_same("Mod", [drawn(1, 9), drawn(2, 9)], {"fmod": 1})
    assert_same("Mod", [whole(1, -9, 9, 9), np.array([4])], {"fmod": 1})


@pytest.mark.parametrize("exponent", [np.array([2.0], np.float32), np.array([3])])
def test_powers(exponent: np.ndarray) -> None:
    assert_same("Pow", [drawn(1, 3, 4), exponent])


@settings(max_examples=8, deadline=None, derandomize=True)
@given(shapes=broadcast_shapes(), seed=seeds)
def test_where(shapes: tuple[tuple[int, ...], tuple[int, ...]], seed: int) -> None:
    shape, other = shapes
    assert_same(
        "Where", [np.asarray(whole(seed, 0, 2, *other) == 1), drawn(seed, *shape), drawn(seed, 1)]
    )


@pytest.mark.parametrize("low", [None, np.float32(-1)])
@pytest.mark.parametrize("high", [None, np.float32(0.5)])
def test_clip(low: np.float32 | None, high: np.float32 | None) -> None:
    bounds = [None if each is None else np.asarray(each) for each in (low, high)]
    given_all = [drawn(1, 3, 4), *bounds]
    while given_all[-1] is None:
        given_all.pop()
    assert_same("Clip", given_all)
    assert_same("Clip", given_all, known=(1, 2))


@pytest.mark.parametrize("to", [1, 6, 7, 9, 11])
@pytest.mark.parametrize("dtype", ["float32", "int64", "bool"])
def test_cast(to: int, dtype: str) -> None:
    x = (drawn(1, 20) * 3).astype(dtype)
    assert_same("Cast", [x], {"to": to})
    assert_same("Cast", [x], {"to": to}, known=(0,))


def test_dropout_does_nothing() -> None:
    assert_same("Dropout", [drawn(1, 3)])


@pytest.mark.parametrize(
    "shape", [(), (1,), (5,), (4, 1), (3, 1, 1), (2, 3, 4, 5), (1, 3, 1, 1), (1, 2, 3, 4, 5)]
)
@pytest.mark.parametrize("known", [(), (1,)])
def test_channels_that_come_last_are_broadcast_all_the_same(
    shape: tuple[int, ...], known: tuple[int, ...]
) -> None:
    shape = shape if len(shape) < 5 else (1, 2, 3, 4, 5)
    assert_same("Sub", [drawn(1, 2, 3, 4, 5), drawn(2, *shape)], {}, known, channels_last=(0,))
