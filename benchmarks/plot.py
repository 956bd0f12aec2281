"""Why: ratios and their spread are seen faster than read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")  # writes files; a display is not needed

from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from benchmarks.figures import Figure
from benchmarks.pieces import AROUND, FORWARD
from benchmarks.plan import EAGER, SCRIPTING, TRACING
from benchmarks.report import LABELS
from benchmarks.results import BenchResults, SideResult
from benchmarks.summary import PERCENTS

_COLOURS = {EAGER: "#9a9a9a", TRACING: "#6baed6", SCRIPTING: "#74c476"}
_PIECE_COLOURS = ("#a6cee3", "#fb9a99", "#fdbf6f")
_TICKS = {name: label.replace(" ", "\n") for name, label in LABELS.items()}


def save_plot(results: BenchResults, file: Path) -> None:
    """Write the bars of a run as a PNG file."""
    figure, axes = plt.subplots(2, 3, figsize=(13, 7.5), layout="constrained")
    machine = results.machine
    figure.suptitle(
        f"Mask R-CNN R50-FPN, {results.workload['detections']} instances a picture, "
        f"{machine.cores} cores ({machine.cpu}), torch {machine.versions['torch']}\n"
        "lines: lowest to highest of the repeats"
    )
    sides = results.sides
    _bars(axes[0, 0], sides, lambda side: side.summary.throughput, "{:.2f}")
    axes[0, 0].set_title("Throughput, images/s (higher is better)")
    _latency(axes[0, 1], sides)
    _outside(axes[0, 2], sides)
    _bars(axes[1, 0], sides, lambda side: _in_seconds(side.pieces[FORWARD]), "{:.2f}")
    axes[1, 0].set_title("The model's forward alone, s in one thread")
    _cold_start(axes[1, 1], sides)
    _memory(axes[1, 2], sides)
    for axis in axes.flat:
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(file, dpi=110, metadata={"Software": None})
    plt.close(figure)


def _bars(
    axis: Axes,
    sides: dict[str, SideResult],
    figure_of: Callable[[SideResult], Figure],
    text: str,
) -> None:
    figures = [figure_of(side) for side in sides.values()]
    colours = [_COLOURS[name] for name in sides]
    bars = axis.bar(range(len(sides)), [f.value for f in figures], 0.6, color=colours)
    axis.errorbar(
        range(len(sides)), [f.value for f in figures], _errors(figures), fmt="none", ecolor="black"
    )
    axis.bar_label(bars, [text.format(f.value) for f in figures], label_type="center")
    _name_sides(axis, sides)


def _latency(axis: Axes, sides: dict[str, SideResult]) -> None:
    width = 0.8 / len(sides)
    for index, (name, side) in enumerate(sides.items()):
        figures = [side.summary.latency[f"p{percent}"] for percent in PERCENTS]
        places = [group + (index - (len(sides) - 1) / 2) * width for group in range(len(PERCENTS))]
        values = [f.value for f in figures]
        label = f"{LABELS[name]}, {side.setup} (workers x threads)"
        bars = axis.bar(places, values, width, color=_COLOURS[name], label=label)
        axis.bar_label(bars, [f"{v:.2f}" for v in values], label_type="center", fontsize=8)
        axis.errorbar(places, values, _errors(figures), fmt="none", ecolor="black")
    axis.set_xticks(range(len(PERCENTS)), [f"p{percent}" for percent in PERCENTS])
    axis.set_title("Latency, s (lower is better)")
    _legend_above(axis)


def _outside(axis: Axes, sides: dict[str, SideResult]) -> None:
    bottom = [0.0] * len(sides)
    for step, colour in zip(AROUND, _PIECE_COLOURS):
        heights = [side.pieces[step].value for side in sides.values()]
        axis.bar(range(len(sides)), heights, 0.6, bottom, color=colour, label=step)
        bottom = [low + height for low, height in zip(bottom, heights)]
    for place, total in enumerate(bottom):
        axis.annotate(f"{total:.0f}", (place, total), (0, 2), "data", "offset points", ha="center")
    _name_sides(axis, sides)
    axis.set_title("Outside the forward, ms in one thread")
    _legend_above(axis)


def _cold_start(axis: Axes, sides: dict[str, SideResult]) -> None:
    ready = [side.cold_start.until_ready.value for side in sides.values()]
    answer = [side.cold_start.first_answer.value for side in sides.values()]
    totals = [side.cold_start.total for side in sides.values()]
    colours = [_COLOURS[name] for name in sides]
    places = range(len(sides))
    bars = axis.bar(places, ready, 0.6, color=colours, label="register until READY")
    axis.bar_label(bars, [f"{t.value:.1f} in all" for t in totals], label_type="center")
    axis.bar(places, answer, 0.6, ready, color=colours, alpha=0.5, hatch="//", label="first answer")
    axis.errorbar(places, [t.value for t in totals], _errors(totals), fmt="none", ecolor="black")
    _name_sides(axis, sides)
    axis.set_title("Cold start, s (lower is better)")
    _legend_above(axis)


def _memory(axis: Axes, sides: dict[str, SideResult]) -> None:
    loaded = [side.cold_start.memory.rss for side in sides.values()]
    after = [side.memory_after_run.rss for side in sides.values()]
    colours = [_COLOURS[name] for name in sides]
    first = axis.bar([p - 0.2 for p in range(len(sides))], loaded, 0.4, color=colours, alpha=0.55)
    second = axis.bar([p + 0.2 for p in range(len(sides))], after, 0.4, color=colours)
    for bars, word in ((first, "loaded"), (second, "after\nthe run")):
        labels = [f"{bar.get_height():.0f}\n{word}" for bar in bars]
        axis.bar_label(bars, labels, label_type="center", fontsize=8)
    _name_sides(axis, sides)
    axis.set_title("RSS of a worker, MiB (lower is better)")


def _legend_above(axis: Axes) -> None:
    axis.set_ylim(top=axis.get_ylim()[1] * 1.35)
    axis.legend(fontsize=8, loc="upper right")


def _errors(figures: Sequence[Figure]) -> list[list[float]]:
    below = [max(f.value - f.low, 0.0) for f in figures]
    return [below, [max(f.high - f.value, 0.0) for f in figures]]


def _in_seconds(figure: Figure) -> Figure:
    return Figure(figure.value / 1000, figure.low / 1000, figure.high / 1000)


def _name_sides(axis: Axes, sides: dict[str, SideResult]) -> None:
    axis.set_xticks(range(len(sides)), [_TICKS[name] for name in sides])
