"""The figures as a table and as a picture."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import matplotlib

matplotlib.use("Agg")  # writes files; a display is not needed

from matplotlib import pyplot as plt

from benchmarks.engines.engines import ENGINES
from benchmarks.engines.measuring import FULL, Killed, Measured
from benchmarks.engines.plan import Plan
from benchmarks.shared.bars import draw_bars
from benchmarks.shared.table import Table, spread
from d2serve.server.measuring.figures import Figure, median_of, median_ratio

_COLOURS = {
    "torchserve": "#9a9a9a",
    "ray-serve": "#56b4e9",
    "kserve": "#e69f00",
    "triton": "#009e73",
}
"""Okabe and Ito's, which people tell apart whatever their colour vision."""

_Value = Callable[[Measured], Figure]


def _rate(each: Measured) -> Figure:
    return median_of([turn.rate for turn in each.turns])


def _latency(percent: float) -> _Value:
    return lambda each: median_of([turn.latency(percent) for turn in each.turns])


def _cpu(each: Measured) -> Figure:
    pairs = zip(each.cpu_seconds, each.turns)
    return median_of([1000 * seconds / len(turn.answered) for seconds, turn in pairs])


def _point(value: float) -> Figure:
    return Figure(value, value, value)


_MEASURED: tuple[tuple[str, int, _Value], ...] = (
    ("images/s", 1, _rate),
    ("p50, ms", 0, _latency(50)),
    ("p99, ms", 0, _latency(99)),
    ("CPU, ms an image", 1, _cpu),
)
"""What it is called, its digits, and its value over the rounds."""
_TAKEN: tuple[tuple[str, int, _Value], ...] = (
    ("CPU of the idle engine, %", 1, lambda each: _point(100 * each.idle)),
    ("memory of a worker, MiB", 0, lambda each: _point(each.taken.worker)),
    ("of all else, MiB", 0, lambda each: _point(each.taken.others)),
)
_BACK = "seconds until full rate"


def table_of(found: Mapping[str, Measured], plan: Plan) -> Table:
    """Every engine in a row; ratios are to the first."""
    first = next(iter(found))
    reference = [turn.rate for turn in found[first].turns]
    rows = []
    for name, each in found.items():
        ratio = median_ratio([turn.rate for turn in each.turns], reference)
        rows.append(
            (
                ENGINES[name].label,
                *(spread(value(each), digits) for _, digits, value in _MEASURED),
                spread(ratio, 2),
                *(f"{value(each).value:.{digits}f}" for _, digits, value in _TAKEN),
                " and ".join(str(killed.lost) for killed in each.killed),
                " and ".join(_seconds(killed, plan) for killed in each.killed),
            )
        )
    header = (
        "",
        *(name for name, _, _ in _MEASURED),
        f"images/s by {ENGINES[first].label}'s",
        *(name for name, _, _ in _TAKEN),
        "requests lost by a kill",
        _BACK,
    )
    return Table(
        "Engines side by side",
        f"Median of {plan.rounds} rounds (lowest to highest), {plan.seconds:.0f} s each; ratios "
        "are formed within a round, and one whose range has 1.00 inside it is no difference. CPU: "
        "of all processes of the engine, not the clients'. Memory is PSS, in which a page is "
        "divided by the processes that share it: of one process that has the model, and of all "
        f"others together. Killed, {plan.kills} times: one of the {plan.workers} processes that "
        "have the model, under the same load, by SIGKILL; full is "
        f"{100 * FULL:.0f} % of the rate before, and nothing fails.",
        header,
        tuple(rows),
    )


def save_plot(found: Mapping[str, Measured], plan: Plan, file: Path) -> None:
    """Write the bars of a run as a PNG file, and how the rate went when a worker was killed."""
    figure, axes = plt.subplots(2, 4, figsize=(17, 5), layout="constrained")
    labels = [ENGINES[name].label for name in found]
    colours = [_COLOURS[name] for name in found]
    for index, (name, digits, value) in enumerate((*_MEASURED, *_TAKEN)):
        axis = axes.flat[index]
        draw_bars(axis, [value(each) for each in found.values()], colours, digits)
        axis.set_yticks(range(len(labels)), labels if index % 4 == 0 else [""] * len(labels))
        better = "higher" if value is _rate else "lower"
        axis.set_title(f"{name}; {better} is better", fontsize=10)
    last = axes.flat[-1]
    for name, each in found.items():
        seconds, rates = _around(each.killed[0], plan)
        last.plot(seconds, rates, color=_COLOURS[name])  # as its bars
    last.axvline(0, color="black", linewidth=0.8, linestyle="--")
    last.set_ylim(bottom=0)
    last.set_xlabel("seconds since the first kill", fontsize=9)
    last.set_title("images/s when one of the workers is killed", fontsize=10)
    for axis in axes.flat:
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(file, dpi=110, metadata={"Software": None})
    plt.close(figure)


def _around(killed: Killed, plan: Plan) -> tuple[list[float], list[float]]:
    """The middle of each second around a kill, and the images answered in it."""
    ends = [each.ended - killed.at for each in killed.turn.answered]
    seconds = range(-int(plan.seconds_before_kill), int(plan.seconds_after_kill))
    rates = [float(sum(begin <= each < begin + 1 for each in ends)) for begin in seconds]
    return [begin + 0.5 for begin in seconds], rates


def _seconds(killed: Killed, plan: Plan) -> str:
    over = f"over {plan.seconds_after_kill:.0f}"
    return over if killed.seconds is None else f"{killed.seconds:.1f}"
