"""A run as a picture: ratios, spread and where the time goes are seen faster than read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from d2serve.handlers.timing import STEPS
from d2serve.server.measuring.machine import Machine
from d2serve.server.measuring.plan import Cell, reference_of

# Okabe and Ito's colours, which people tell apart whatever their colour vision.
_COLOURS = ("#56b4e9", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#0072b2", "#999999")
_STEP_COLOURS = ("#0072b2", "#56b4e9", "#999999", "#e69f00", "#cc79a7")


def save_plot(machine: Machine, images: str, cells: Sequence[Cell], file: Path) -> None:
    """Write the bars of a run as a PNG file.

    Args:
        machine: where it was made.
        images: what was answered, in a few words.
        cells: what was measured.
        file: to write.

    Raises:
        ImportError: matplotlib is not there.
    """
    import matplotlib

    matplotlib.use("Agg")  # writes files; a display is not needed
    from matplotlib import pyplot as plt

    height = 2.2 + 0.42 * len(cells)
    figure, axes = plt.subplots(1, 3, figsize=(16, height), layout="constrained", sharey=True)
    figure.suptitle(
        f"{images}, {machine.cores} cores ({machine.cpu})\n"
        "black lines: lowest to highest of the rounds"
    )
    names = list(dict.fromkeys(cell.subject.name for cell in cells))
    colours = {name: _COLOURS[i % len(_COLOURS)] for i, name in enumerate(names)}
    places = range(len(cells))
    rate, split, memory = axes
    rates = [cell.rate for cell in cells]
    bars = [colours[cell.subject.name] for cell in cells]
    rate.barh(places, [each.value for each in rates], 0.7, color=bars)
    spread = [[each.value - each.low for each in rates], [each.high - each.value for each in rates]]
    rate.errorbar([each.value for each in rates], places, xerr=spread, fmt="none", ecolor="black")
    reference = reference_of(cells)
    for place, cell in zip(places, cells):
        text = f"{cell.rate.value:.3g} ({cell.ratio(reference).value:.2f}x)"
        rate.annotate(
            text, (cell.rate.high, place), (5, 0), textcoords="offset points", va="center"
        )
    rate.set_title("Images/s (and ratio); higher is better")
    rate.set_yticks(
        places, [f"{cell.subject.name}, {cell.subject.title}\n{cell.setup}" for cell in cells]
    )
    rate.invert_yaxis()
    left = [0.0] * len(cells)
    for step, colour in zip(STEPS, _STEP_COLOURS):
        widths = [cell.step(step) for cell in cells]
        split.barh(places, widths, 0.7, left, color=colour, label=step)
        left = [start + width for start, width in zip(left, widths)]
    split.legend(fontsize=8)
    split.set_title("An image in one worker, ms; lower is better")
    memory.barh(places, [cell.memory_mib * cell.setup.workers for cell in cells], 0.7, color=bars)
    memory.set_title("Memory of all workers, MiB; lower is better")
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
        axis.title.set_fontsize(10)
        axis.set_xlim(left=0, right=axis.get_xlim()[1] * 1.2)
    figure.savefig(file, dpi=110, metadata={"Software": None})
    plt.close(figure)
