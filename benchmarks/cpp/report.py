"""The runs as a table and as a picture."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median

import matplotlib

matplotlib.use("Agg")  # writes files; a display is not needed

from matplotlib import pyplot as plt

from benchmarks.cpp.measuring import Run
from benchmarks.cpp.sides import Side
from benchmarks.shared.bars import draw_bars
from benchmarks.shared.table import Table, spread
from d2serve.server.measuring.figures import Figure, median_of, median_ratio

Runs = Mapping[Side, Sequence[Run]]
_Value = Callable[[Run], float]

_MEASURED: tuple[tuple[str, int, _Value], ...] = (
    ("first answer, s", 2, lambda run: run.first_answer),
    ("latency, ms", 1, lambda run: median(run.latencies)),
    ("outside the forward, ms", 2, lambda run: median(run.outside)),
    ("memory, MiB", 0, lambda run: run.megabytes),
)
"""What it is called, its digits, and its value in a run."""
_TO_DEPLOY = "to deploy, MB"
# Okabe and Ito's colours, which people tell apart whatever their colour vision.
_CPP, _PYTHON = "#009e73", "#e69f00"


def table_of(runs: Runs, sizes: Mapping[Side, float]) -> Table:
    """Every side in a row, and after each pair of them their ratios."""
    rows = []
    for side, own in runs.items():
        cells = [spread(median_of(list(map(value, own))), digits) for _, digits, value in _MEASURED]
        rows.append((side.label, *cells, f"{sizes[side]:,.0f}"))
        if not side.in_cpp:
            beside = next(each for each in runs if each.in_cpp and each.runtime == side.runtime)
            ratios = [spread(_ratio(runs[beside], own, value), 2) for _, _, value in _MEASURED]
            size = f"{sizes[beside] / sizes[side]:.3f}"
            rows.append(("C++ / Python", *ratios, size))
    return Table(
        "C++ beside Python",
        "Median of the rounds (lowest to highest); ratios are formed within a round, and below 1 "
        "C++ needs less. First answer: from the start of the process, loading included. Latency: "
        "from the file to the JSON, the median of a round. Memory: the most that the process had "
        "(VmHWM). To deploy: C++ what `cmake --install` collects for the engine; Python the wheels "
        "that pip installs, without Python itself.",
        ("", *(name for name, _, _ in _MEASURED), _TO_DEPLOY),
        tuple(rows),
    )


def save_plot(runs: Runs, sizes: Mapping[Side, float], file: Path) -> None:
    """Write the bars of a run as a PNG file."""
    figure, axes = plt.subplots(1, len(_MEASURED) + 1, figsize=(16, 2.8), layout="constrained")
    labels = [side.label for side in runs]
    colours = [_CPP if side.in_cpp else _PYTHON for side in runs]
    shown = [
        (name, digits, [median_of(list(map(value, own))) for own in runs.values()])
        for name, digits, value in _MEASURED
    ]
    shown.append((_TO_DEPLOY, 0, [Figure(size, size, size) for size in sizes.values()]))
    for axis, (name, digits, figures) in zip(axes, shown):
        draw_bars(axis, figures, colours, digits)
        axis.set_yticks(range(len(labels)), labels if axis is axes[0] else [""] * len(labels))
        axis.set_title(f"{name}; lower is better", fontsize=9)
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(file, dpi=110, metadata={"Software": None})
    plt.close(figure)


def _ratio(own: Sequence[Run], other: Sequence[Run], value: _Value) -> Figure:
    return median_ratio(list(map(value, own)), list(map(value, other)))
