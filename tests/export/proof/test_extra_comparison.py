"""What a model answers of its own is compared by the kind of its numbers, and nothing is missed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from d2serve.export.proof.comparing.extra_comparison import compare_extras, compare_names
from d2serve.handlers.spec.bounds import ONNX_BOUNDS, TORCHSCRIPT_BOUNDS, Bounds


def misses(expected: Any, got: Any, bounds: Bounds = TORCHSCRIPT_BOUNDS) -> list[str]:
    found: list[str] = []
    compare_extras({"x": np.asarray(expected)}, {"x": np.asarray(got)}, "", bounds, found)
    return found


@pytest.mark.parametrize("dtype", ["int64", "uint8", "bool"])
def test_whole_numbers_and_truth_values_are_equal(dtype: str) -> None:
    ones, other = np.ones(3, dtype), np.array([1, 1, 0], dtype)
    assert misses(ones, ones) == []
    assert misses(ones, other) == ["x differs in 1 of 3 values"]


def test_fractions_are_within_the_bound_of_scores_or_a_share_of_the_largest() -> None:
    small = np.zeros(2, np.float32)
    assert misses(small, small + np.float32(9e-5)) == []
    assert misses(small, small + np.float32(2e-4)) == ["x by 0.0002, allowed 0.0001"]
    assert misses(small, small + np.float32(9e-4), ONNX_BOUNDS) == []
    large = np.array([1000, 0], np.float32)
    assert misses(large, large + np.float32(9e-3)) == []
    assert misses(large, large + np.float32(2e-2)) != []


def test_half_precision_is_to_its_last_digit() -> None:
    one = np.ones(1, np.float16)
    assert misses(one, np.nextafter(one, np.float16(2))) == []
    assert misses(one, one + np.float16(0.01)) != []


def test_what_is_no_number_is_at_the_same_places() -> None:
    a = np.array([np.nan, np.inf, 1], np.float32)
    assert misses(a, a) == []
    told = ["x is infinite or no number at other places"]
    assert misses(a, np.array([np.nan, -np.inf, 1], np.float32)) == told
    assert misses(a, np.array([np.inf, np.nan, 1], np.float32)) == told
    assert misses(a, np.array([0, np.inf, 1], np.float32)) == told
    assert misses(a, np.array([np.nan, np.inf, np.nan], np.float32)) == told


def test_types_and_shapes_are_those_of_eager() -> None:
    assert misses(np.ones(2), np.ones(2, np.float32)) == ["x is float32 [2], expected float64 [2]"]
    assert misses(np.ones((2, 1)), np.ones(2)) == ["x is float64 [2], expected float64 [2, 1]"]


def test_a_name_that_only_one_has_is_told() -> None:
    found: list[str] = []
    compare_names({"a": np.ones(1)}, {"b": np.ones(1)}, "instances.", found)
    assert found == ["instances.a is missing", "instances.b is not expected"]
