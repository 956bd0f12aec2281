"""A measured value with its range, since the machine is noisy.

A ratio is formed within a round, where both sides met the same machine, before any median is taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Figure:
    """A measured value, with the lowest and highest of its repeats."""

    value: float
    low: float
    high: float


def median_of(values: Sequence[float]) -> Figure:
    """Median, lowest and highest of repeats.

    Raises:
        ValueError: there are no values.
    """
    if not values:
        raise ValueError("Nothing was measured: a median needs at least one value.")
    return Figure(float(np.median(values)), float(min(values)), float(max(values)))


def median_ratio(values: Sequence[float], reference: Sequence[float]) -> Figure:
    """Median, lowest and highest of value / reference, each formed within one round.

    Raises:
        ValueError: they are not of the same rounds.
    """
    if len(values) != len(reference):
        raise ValueError(f"{len(values)} rounds cannot be compared with {len(reference)}.")
    return median_of([value / other for value, other in zip(values, reference)])


def pooled_percentile(rounds: Sequence[Sequence[float]], percent: float) -> Figure:
    """A percentile over the values of all rounds; lowest and highest of the rounds' own.

    Between two values it is interpolated linearly, as numpy does by default.
    """
    each = [float(np.percentile(values, percent)) for values in rounds]
    pooled = np.concatenate([np.asarray(values, np.float64) for values in rounds])
    return Figure(float(np.percentile(pooled, percent)), min(each), max(each))


def shown(value: float) -> str:
    """A number as people read it: three digits, and never with an exponent where it is large."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
