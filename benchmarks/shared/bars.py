"""Figures as bars, each with its range and its value."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes

from d2serve.server.measuring.figures import Figure

_ROOM = 1.25
"""Of the longest bar, for its value behind it."""


def draw_bars(axis: Axes, figures: Sequence[Figure], colours: Sequence[str], digits: int) -> None:
    """Draw one bar for each figure, from the top down."""
    values = [each.value for each in figures]
    around = [[each.value - each.low for each in figures]]
    around.append([each.high - each.value for each in figures])
    places = range(len(values))
    axis.barh(places, values, 0.7, color=colours)
    axis.errorbar(values, places, xerr=around, fmt="none", ecolor="black", capsize=2)
    for place, each in zip(places, figures):
        text, end = f"{each.value:,.{digits}f}", (each.high, place)
        axis.annotate(text, end, (4, 0), "data", "offset points", va="center", fontsize=9)
    axis.invert_yaxis()
    axis.set_xlim(0, (max(each.high for each in figures) or 1) * _ROOM)
