"""A run as a picture: ratios and their spread are seen faster than read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")  # writes files; a display is not needed

from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from benchmarks.pieces.forward import Forward
from benchmarks.pieces.request import AROUND
from benchmarks.served.sides import SIDES, Side
from benchmarks.serving.results import BenchResults, SideResult
from d2serve.server.measuring.figures import Figure

# Okabe and Ito's colours, which people tell apart whatever their colour vision; what is not ours
# is grey.
_OTHERS, _TORCHSCRIPT, _ONNXRUNTIME, _OPENVINO = "#9a9a9a", "#56b4e9", "#e69f00", "#009e73"
_STEP_COLOURS = ("#0072b2", "#e69f00", "#cc79a7")
_HATCHES = {"fp32": "", "bf16": "//", "int8": "xx"}
_PALE = 0.45
"""Of a side that is another one's with a setting turned off."""

Rows = Sequence[tuple[str, SideResult]]


def save_plot(results: BenchResults, file: Path) -> None:
    """Write the bars of a run as a PNG file."""
    figure, axes = plt.subplots(2, 3, figsize=(15, 8.5), layout="constrained")
    machine = results.machine
    figure.suptitle(
        f"Mask R-CNN R50-FPN, {results.workload.detections} instances a picture, "
        f"{machine.cores} cores ({machine.cpu}), {results.date[:10]}\n"
        "pale: without Winograd's convolution; black lines: lowest to highest of the repeats"
    )
    rows = list(results.sides.items())
    _throughput(axes[0, 0], rows)
    _bars(axes[0, 1], rows, lambda side: side.summary.latency["p50"], "{:.2f}")
    axes[0, 1].set_title("Latency p50 at that load, s; lower is better")
    _forward(axes[0, 2], rows, machine.cores)
    _outside(axes[1, 0], rows)
    _bars(axes[1, 1], rows, lambda side: side.cold_start.total, "{:.1f}")
    axes[1, 1].set_title("Cold start to first answer, s; lower is better")
    _bars(axes[1, 2], rows, lambda side: _point(side.memory_after_run.rss), "{:.0f}")
    axes[1, 2].set_title("RSS of a worker, MiB; lower is better")
    for axis in axes.flat:
        axis.spines[["top", "right"]].set_visible(False)
        axis.title.set_fontsize(10)
        axis.set_xlim(left=0, right=axis.get_xlim()[1] * 1.12)
        axis.margins(y=0.02)
    figure.savefig(file, dpi=110, metadata={"Software": None})
    plt.close(figure)


def _throughput(axis: Axes, rows: Rows) -> None:
    def text(side: SideResult) -> str:
        ratio = side.summary.throughput_ratio.value
        return f"{side.summary.throughput.value:.2f}  ({ratio:.2f}x)"

    _bars(axis, rows, lambda side: side.summary.throughput, text)
    axis.set_title("Images/s (and ratio to eager); higher is better")


def _forward(axis: Axes, rows: Rows, threads: int) -> None:
    with_pieces = [(name, side) for name, side in rows if side.pieces is not None]

    def forward_of(side: SideResult) -> Forward:
        assert side.pieces is not None  # filtered above
        return next(each for each in side.pieces.forwards if each.threads == threads)

    def text(side: SideResult) -> str:
        each = forward_of(side)
        return f"{each.milliseconds.value:,.0f}  ({each.against_peak.value:.2f})"

    _bars(axis, with_pieces, lambda side: forward_of(side).milliseconds, text)
    axis.set_title(f"Forward, ms, {threads} threads (by peak); lower is better")


def _outside(axis: Axes, rows: Rows) -> None:
    pieces = [(name, side.pieces) for name, side in rows if side.pieces is not None]
    places = range(len(pieces))
    left = [0.0] * len(pieces)
    for step, colour in zip(AROUND, _STEP_COLOURS):
        widths = [each.around[step].value for _, each in pieces]
        axis.barh(places, widths, 0.7, left, color=colour, label=step)
        left = [start + width for start, width in zip(left, widths)]
    for place, total in zip(places, left):
        axis.annotate(f"{total:.0f}", (total, place), (4, 0), "data", "offset points", va="center")
    _name_rows(axis, [name for name, _ in pieces])
    axis.legend(fontsize=8, loc="lower right")
    axis.set_title("Outside the forward, ms, 1 thread; lower is better")


def _bars(
    axis: Axes,
    rows: Rows,
    figure_of: Callable[[SideResult], Figure],
    text: str | Callable[[SideResult], str],
) -> None:
    figures = [figure_of(side) for _, side in rows]
    values = [figure.value for figure in figures]
    places = range(len(rows))
    bars = axis.barh(places, values, 0.7, color=[_colour(SIDES[name]) for name, _ in rows])
    for bar, (name, _) in zip(bars, rows):
        bar.set_hatch(_HATCHES[SIDES[name].precision])
        bar.set_edgecolor("white")
        if SIDES[name].settings:
            bar.set_alpha(_PALE)
    below = [max(figure.value - figure.low, 0.0) for figure in figures]
    above = [max(figure.high - figure.value, 0.0) for figure in figures]
    axis.errorbar(values, places, xerr=[below, above], fmt="none", ecolor="black", capsize=2)
    for place, figure, (_, side) in zip(places, figures, rows):
        label = text.format(figure.value) if isinstance(text, str) else text(side)
        end = max(figure.high, figure.value)
        axis.annotate(label, (end, place), (5, 0), "data", "offset points", va="center", fontsize=9)
    _name_rows(axis, [name for name, _ in rows])


def _name_rows(axis: Axes, names: Sequence[str]) -> None:
    axis.set_yticks(range(len(names)), [SIDES[name].label for name in names])
    axis.invert_yaxis()


def _colour(side: Side) -> str:
    if not side.is_ours and side.made_of is None:
        return _OTHERS
    made = side if side.is_ours or side.made_of is None else SIDES[side.made_of]
    runtime = made.export.get("runtime", "torchscript")
    return {"onnxruntime": _ONNXRUNTIME, "openvino": _OPENVINO}.get(runtime, _TORCHSCRIPT)


def _point(value: float) -> Figure:
    return Figure(value, value, value)
