"""A plot of a soak. Whether memory creeps or settles is seen faster than read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")  # writes files; a display is not needed

from matplotlib import pyplot as plt

from benchmarks.soak.processes import JAVA, Sample
from benchmarks.soak.verdict import WARM_UP, Course

# Okabe and Ito's, which people tell apart whatever their colour vision.
_COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00")


def save_plot(
    samples: Sequence[Sample], courses: Mapping[str, Course], workers: Sequence[str], file: Path
) -> None:
    """Write RSS, open files and threads over time as a PNG file."""
    figure, axes = plt.subplots(2, 2, figsize=(12, 7), sharex=True, layout="constrained")
    names = [*workers, JAVA]
    warm = WARM_UP * samples[-1].seconds / 60
    panels = (
        (axes[0, 0], workers, "rss", "RSS of workers, MB"),
        (axes[0, 1], [JAVA], "rss", "RSS of Java, MB"),
        (axes[1, 0], names, "files", "Open files, between rounds"),
        (axes[1, 1], names, "threads", "Threads, between rounds"),
    )
    for axis, shown, field, title in panels:
        for name in shown:
            colour = _COLOURS[names.index(name) % len(_COLOURS)]
            there = [each for each in samples if name in each.holdings]
            for quiet, style in ((False, {"alpha": 0.25}), (True, {"marker": ".", "label": name})):
                if not quiet and field != "rss":
                    continue
                those = [each for each in there if each.quiet == quiet]
                values = [getattr(each.holdings[name], field) for each in those]
                minutes = [each.seconds / 60 for each in those]
                axis.plot(minutes, values, color=colour, linewidth=1, **style)
        if field == "rss":
            floors = [each for name in shown if name in courses for each in courses[name].floors]
            times, least = zip(*((seconds / 60, held) for seconds, held in floors))
            axis.plot(times, least, "_", color="black", markersize=10, label="at its least")
        axis.axvspan(0, warm, color="#eeeeee", zorder=0)
        axis.set_title(title, fontsize=10)
        axis.spines[["top", "right"]].set_visible(False)
        axis.legend(fontsize=8)
    for axis in axes[1]:
        axis.set_xlabel("minutes")
    slopes = ", ".join(
        f"{name} {courses[name].slope.value:+.1f}" for name in names if name in courses
    )
    figure.suptitle(
        f"Soak: MB an hour after the warm-up (grey): {slopes}\n"
        "dots: between rounds, when nothing is on its way; pale: under load; "
        "bars: at its least, of which the slopes are",
        fontsize=11,
    )
    figure.savefig(file, dpi=110, metadata={"Software": None})
    plt.close(figure)
