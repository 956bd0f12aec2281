"""Sums, products and normalisations are ONNX Runtime's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("d2serve.export.programs.tensorflow", reason="TensorFlow is not installed")

from d2serve.export.programs.tensorflow import products, reductions
from tests.export.programs.tensorflow.single_nodes import assert_same, drawn, whole

REDUCE = tuple(name for name in reductions.OPERATORS if name.startswith("Reduce"))
OTHERS = ("CumSum", "Softmax", "LogSoftmax")
PRODUCTS = (
    "MatMul", "Gemm", "Einsum", "BatchNormalization", "InstanceNormalization",
    "LayerNormalization",
)  # fmt: skip
IMAGES = (2, 3, 4, 5)


def test_every_operator_of_the_tables_is_asked() -> None:
    assert {*REDUCE, *OTHERS} == set(reductions.OPERATORS)
    assert set(PRODUCTS) == set(products.OPERATORS)


@pytest.mark.parametrize("operator", REDUCE)
@settings(max_examples=4, deadline=None, derandomize=True)
@given(
    axes=st.sets(st.integers(0, 3), max_size=3).map(sorted), keep=st.booleans(),
    last=st.booleans(),
)  # fmt: skip
def test_reduced_axes(operator: str, axes: list[int], keep: bool, last: bool) -> None:
    attributes: dict[str, Any] = {"keepdims": int(keep)}
    given_all = [np.abs(drawn(1, *IMAGES))]
    if operator == "ReduceSum":
        given_all.append(np.array(axes, np.int64))
    elif axes:
        attributes["axes"] = axes
    assert_same(operator, given_all, attributes, (1,), (0,) if last else ())


def test_sums_of_nothing() -> None:
    for operator in ("ReduceSum", "ReduceProd", "ReduceMax"):
        x = whole(1, 0, 9, 3, 4)[:0] if operator != "ReduceMax" else whole(1, 0, 9, 3, 4)
        axes = {"axes": [0]} if operator != "ReduceSum" else {}
        more = [np.array([0])] if operator == "ReduceSum" else []
        assert_same(operator, [x, *more], {"keepdims": 0, **axes}, known=(1,))
    assert_same("ReduceSum", [drawn(1, 2, 3)], {"noop_with_empty_axes": 1})


@pytest.mark.parametrize("exclusive", [0, 1])
@pytest.mark.parametrize("reverse", [0, 1])
def test_running_sums(exclusive: int, reverse: int) -> None:
    attributes = {"exclusive": exclusive, "reverse": reverse}
    for x in (drawn(1, 3, 4), whole(2, 0, 9, 0, 4)):
        assert_same("CumSum", [x, np.array(1)], attributes)
        assert_same("CumSum", [x, np.array(-2)], attributes, known=(1,))


@pytest.mark.parametrize("operator", ["Softmax", "LogSoftmax"])
@pytest.mark.parametrize("axis", [1, -1])
@pytest.mark.parametrize("last", [(), (0,)])
def test_softmax(operator: str, axis: int, last: tuple[int, ...]) -> None:
    assert_same(operator, [drawn(1, *IMAGES)], {"axis": axis}, channels_last=last)


@pytest.mark.parametrize(
    ("one", "other"),
    [((3, 4), (4, 5)), ((2, 3, 4), (4, 5)), ((2, 1, 3, 4), (5, 4, 2)), ((4,), (4, 5)),
     ((3, 4), (4,)), ((0, 4), (4, 5))],
)  # fmt: skip
def test_products_of_matrices(one: tuple[int, ...], other: tuple[int, ...]) -> None:
    assert_same("MatMul", [drawn(1, *one), drawn(2, *other)])
    assert_same("MatMul", [drawn(1, *one), drawn(2, *other)], known=(1,))


@pytest.mark.parametrize("turned", [(0, 0), (0, 1), (1, 1)])
@pytest.mark.parametrize("rows", [0, 6])
@pytest.mark.parametrize("known", [(), (1, 2)])
def test_general_products(turned: tuple[int, int], rows: int, known: tuple[int, ...]) -> None:
    x, y, bias = drawn(1, rows, 20), drawn(2, 20, 30), drawn(3, 30)
    given_all = [x.T.copy() if turned[0] else x, y.T.copy() if turned[1] else y, bias]
    attributes = {"transA": turned[0], "transB": turned[1]}
    assert_same("Gemm", given_all, attributes, known)
    assert_same("Gemm", given_all, {**attributes, "alpha": 0.5, "beta": 2.0}, known)
    assert_same("Gemm", given_all[:2], attributes, known)


def test_einsum() -> None:
    assert_same("Einsum", [drawn(1, *IMAGES), drawn(2, 4, 6, 5)], {"equation": "bhwc,wkc->bhwk"})
    assert_same("Einsum", [drawn(1, 0, 3), drawn(2, 0, 4, 5)], {"equation": "qc,qhw->chw"})


@pytest.mark.parametrize("last", [(), (0,)])
def test_normalisations(last: tuple[int, ...]) -> None:
    x, ones = drawn(1, *IMAGES), [drawn(seed, 3) for seed in (2, 3, 4)]
    variance = np.abs(drawn(5, 3)) + 0.1
    given_all = [x, *ones, variance]
    assert_same("BatchNormalization", given_all, {"epsilon": 1e-3}, (1, 2, 3, 4), last)
    assert_same("BatchNormalization", given_all, {}, (), last)
    assert_same("InstanceNormalization", [x, *ones[:2]], {"epsilon": 1e-3}, (1, 2), last)
    assert_same("InstanceNormalization", [x[..., 0], *ones[:2]])


def test_batch_normalisation_of_features() -> None:
    given_all = [drawn(1, 4, 3), *(drawn(seed, 3) for seed in (2, 3, 4)), np.ones(3, np.float32)]
    assert_same("BatchNormalization", given_all)


@pytest.mark.parametrize("axis", [-1, 1])
@pytest.mark.parametrize("rows", [0, 2])
def test_layer_normalisation(axis: int, rows: int) -> None:
    x = drawn(1, rows, 3, 4)
    scale = [drawn(2, *x.shape[axis:]), drawn(3, *x.shape[axis:])]
    assert_same("LayerNormalization", [x, *scale], {"axis": axis, "epsilon": 1e-6})
    assert_same("LayerNormalization", [x, scale[0]], {"axis": axis})
