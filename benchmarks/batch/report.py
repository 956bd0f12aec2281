"""The figures of a run as tables and a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import matplotlib

matplotlib.use("Agg")  # writes files; a display is not needed

from matplotlib import pyplot as plt

from benchmarks.shared.bars import draw_bars
from benchmarks.shared.machine import this_machine
from benchmarks.shared.table import Table, spread
from d2serve.cli.progress import console
from d2serve.server.measuring.figures import median_of, median_ratio

SIDES = ("plain loop", "plain pool", "d2serve batch", "d2serve batch on Ray")
NODES = (1, 2, 4)
_RESULT = Path(__file__).resolve().parents[1] / "results" / "batch.md"
# Okabe and Ito's colours, which people tell apart whatever their colour vision.
_COLOURS = ("#999999", "#e69f00", "#009e73", "#0072b2")
KINDS = {"processes": "processes, without Ray", "nodes": "nodes of a Ray cluster"}


class Turn(NamedTuple):
    """One process that answered all images."""

    speed: float
    """Images a second, with the start of everything."""
    steady: float | None
    """The same between the first rows and the last; None of a plain side, which does not say."""
    cpu: float | None
    """Milliseconds of CPU time that an image took, of all processes with the start; None of Ray,
    whose processes are nobody's children."""
    load: float
    """Of the machine in the minute before."""


def write(
    turns: Mapping[str, Sequence[Turn]],
    nodes: Mapping[tuple[str, int], Sequence[float]],
    count: int,
) -> None:
    """Print the tables, and write them with the picture."""
    overheads = {kind: [nodes[kind, each] for each in NODES] for kind in KINDS}
    tables = (_sides(turns), _nodes(overheads))
    for table in tables:
        console.print(table.for_terminal())
    machine = this_machine()
    load = median_of([turn.load for own in turns.values() for turn in own])
    onnxruntime, ray = machine.versions["onnxruntime"], version("ray")
    head = (
        f"# Batches\n\n{count:,} images of the example data set, to its Mask R-CNN for ONNX "
        f"Runtime; {machine.cpu}, {machine.cores} cores; onnxruntime {onnxruntime}, ray {ray}. "
        f"Rounds: {len(turns[SIDES[0]])}. The load of the machine in the minute before a turn was "
        f"{spread(load, 1)}.\n"
    )
    picture = f"![The figures as bars]({_RESULT.with_suffix('.png').name})\n"
    text = "\n".join([head, picture, *(table.as_markdown() for table in tables)])
    _RESULT.write_text(text, encoding="utf-8")
    _plot(turns, overheads)


def _sides(turns: Mapping[str, Sequence[Turn]]) -> Table:
    speeds = {side: [turn.speed for turn in own] for side, own in turns.items()}
    rows = []
    for side, own in turns.items():
        steady = [turn.steady for turn in own if turn.steady is not None]
        ratios = [
            spread(median_ratio(speeds[side], speeds[other]), 2) if side != other else ""
            for other in SIDES[:2]
        ]
        after = spread(median_of(steady), 1) if steady else ""
        taken = [turn.cpu for turn in own if turn.cpu is not None]
        cpu = spread(median_of(taken), 1) if taken else ""
        rows.append((side, spread(median_of(speeds[side]), 1), after, *ratios, cpu))
    return Table(
        "Beside a plain loop",
        "Images a second, median of the rounds (lowest to highest); ratios are formed within a "
        "round, and above 1 the side of the row is faster. Plain loop: one process with all cores "
        "as threads. Plain pool: multiprocessing, a process for each core with a thread. Both "
        "write the JSON lines. The start of everything counts, but in `after the start`. CPU time "
        "is that of all processes of a side; Ray's cannot be counted so.",
        ("", "images/s", "after the start", "/ plain loop", "/ plain pool", "CPU ms an image"),
        tuple(rows),
    )


def _nodes(overheads: Mapping[str, Sequence[Sequence[float]]]) -> Table:
    rows = [
        (KINDS[kind], *(spread(median_of(each), 1) for each in own))
        for kind, own in overheads.items()
    ]
    return Table(
        "What a worker adds to an image",
        "Milliseconds of a worker for an image beyond the 100 ms that each image takes here "
        "without work, so that four nodes fit onto two cores; the model's own work, on images of "
        "32x24, is in it. A simulation: all nodes are on one machine, and no network is between "
        "them.",
        ("workers", *(str(count) for count in NODES)),
        tuple(rows),
    )


def _plot(
    turns: Mapping[str, Sequence[Turn]], overheads: Mapping[str, Sequence[Sequence[float]]]
) -> None:
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 2.8), layout="constrained")
    figures = [median_of([turn.speed for turn in own]) for own in turns.values()]
    draw_bars(left, figures, _COLOURS, digits=1)
    left.set_yticks(range(len(turns)), list(turns))
    left.set_title("images/s, with the start; higher is better", fontsize=9)
    for (kind, own), colour in zip(overheads.items(), _COLOURS[2:]):
        medians = [median_of(each) for each in own]
        right.errorbar(
            NODES,
            [each.value for each in medians],
            [
                [each.value - each.low for each in medians],
                [each.high - each.value for each in medians],
            ],
            color=colour,
            marker="o",
            capsize=2,
            label=KINDS[kind],
        )
    right.set_xticks(NODES, [str(count) for count in NODES])
    right.set_ylim(bottom=0)
    right.set_xlabel("workers", fontsize=9)
    right.set_title("ms of a worker beyond an image's own time; lower is better", fontsize=9)
    right.legend(frameon=False, fontsize=9)
    for axis in (left, right):
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(_RESULT.with_suffix(".png"), dpi=110, metadata={"Software": None})
    plt.close(figure)
