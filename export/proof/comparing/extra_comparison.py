"""Compares what a model answers beyond detectron2's own fields, number by number.

Whole numbers and truth values have to be equal. Numbers with a fraction may differ by the bound of
scores, or by a tenth of it as a share of the largest number of that field in the image, since
embeddings and depths have no scale that is known; half precision, by its last digit.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from d2serve.handlers.outputs.records import Extras
from d2serve.handlers.spec.bounds import Bounds

_SHARE = 0.1
_LAST_DIGIT = {"float16": 2.0**-10}

_Values = npt.NDArray[np.generic]


def compare_names(expected: Extras, got: Extras, of: str, misses: list[str]) -> None:
    """Make sure that both have the same names; what only one has goes to ``misses``."""
    for name in (*expected, *(each for each in got if each not in expected)):
        if (name in expected) != (name in got):
            misses.append(f"{of}{name} is {'missing' if name in expected else 'not expected'}")


def compare_extras(
    expected: Extras, got: Extras, of: str, bounds: Bounds, misses: list[str]
) -> float:
    """The largest difference of a number; what is out of bounds goes to ``misses``.

    Args:
        expected: eager detectron2's.
        got: the program's, in the same order.
        of: what comes before each name in a message.
    """
    largest = 0.0
    for name in expected:
        if name in got:
            largest = max(largest, _compare(expected[name], got[name], of + name, bounds, misses))
    return largest


def _compare(
    expected: _Values, got: _Values, name: str, bounds: Bounds, misses: list[str]
) -> float:
    if expected.dtype != got.dtype or expected.shape != got.shape:
        misses.append(
            f"{name} is {got.dtype} {list(got.shape)}, expected {expected.dtype} "
            f"{list(expected.shape)}"
        )
        return 0.0
    if expected.dtype.kind != "f":
        differing = int((expected != got).sum())
        if differing:
            misses.append(f"{name} differs in {differing} of {expected.size} values")
        return 0.0
    a, b = expected.astype(np.float64), got.astype(np.float64)
    finite = np.isfinite(a)
    same = np.array_equal(finite, np.isfinite(b))
    if not same or not np.array_equal(a[~finite], b[~finite], equal_nan=True):
        misses.append(f"{name} is infinite or no number at other places")
        return 0.0
    apart = float(np.abs(a[finite] - b[finite]).max(initial=0.0))
    scale = float(np.abs(a[finite]).max(initial=0.0))
    share = max(_SHARE * bounds.score, _LAST_DIGIT.get(expected.dtype.name, 0.0))
    allowed = max(bounds.score, share * scale)
    if apart > allowed:
        misses.append(f"{name} by {apart:.3g}, allowed {allowed:.3g}")
    return apart
