"""What to put into the configuration, each with the figures that say so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import psutil

from d2serve.server.measuring.figures import Figure, shown
from d2serve.server.measuring.plan import Cell

_CLEAR = 1.05
"""A gain below it is not worth a setting: the machine's own noise is about as large."""
_MUCH = 0.25
"""Of an image's time."""


@dataclass(frozen=True)
class Advice:
    """What to set, and why."""

    archive: str
    """Which to serve."""
    lines: tuple[tuple[str, str], ...]
    """Where a line belongs, and the line."""
    reasons: tuple[str, ...]
    """In sentences."""


def best_of(cells: Sequence[Cell]) -> Cell:
    """The one that answers most images a second."""
    return max(cells, key=lambda each: each.rate.value)


def advice_of(cells: Sequence[Cell], cores: int) -> Advice:
    """What to set on this machine.

    Args:
        cells: what was measured; one at least.
        cores: that workers may use.
    """
    best = best_of([each for each in cells if each.setup.batch == 1])
    own = [each for each in cells if each.subject is best.subject]
    lines: list[tuple[str, str]] = []
    reasons = [_which(best, cells), _why_so_many(best, own, cores)]
    workers, threads = best.setup.workers, best.setup.threads
    is_choice = len({each.setup for each in own if each.setup.batch == 1}) > 1
    if is_choice:
        lines.append(("config.properties", f"default_workers_per_model={workers}"))
    if is_choice and max(1, cores // workers) != threads:
        lines.append(("environment of the server", f"OMP_NUM_THREADS={threads}"))
        reasons.append(f"A worker would otherwise use {max(1, cores // workers)} threads.")
    batched = [each for each in own if each.setup.batch > 1]
    if batched:
        line, reason = _batching(batched[0], best)
        lines += line
        reasons.append(reason)
    reasons += [_one_client(best, own), _memory(best), _where_time_goes(best)]
    return Advice(best.subject.name, tuple(lines), tuple(filter(None, reasons)))


def _which(best: Cell, cells: Sequence[Cell]) -> str:
    rate = f"{best.subject.name} answers {shown(best.rate.value)} images/s at its best"
    others = {each.subject.name: each.subject for each in cells if each.subject != best.subject}
    beside = [
        best_of([each for each in cells if each.subject is other and each.setup.batch == 1])
        for other in others.values()
    ]
    ratios = ", ".join(
        f"{_times(best.ratio(each))} as many as {each.subject.name}" for each in beside
    )
    return f"{rate}: {ratios}." if ratios else f"{rate}."


def _why_so_many(best: Cell, own: Sequence[Cell], cores: int) -> str:
    what = f"{best.setup} (workers x threads)"
    others = [each for each in own if each.setup != best.setup and each.setup.batch == 1]
    if not others:
        return f"{what} is the only setup that was measured on {cores} cores."
    next_best = best_of(others)
    ratio = best.ratio(next_best)
    text = f"{what} answers {_times(ratio)} as many images/s as {next_best.setup}"
    if ratio.value < _CLEAR or ratio.low < 1:
        return f"{text}, which is no clear difference: take the one whose memory or latency suits."
    return f"{text}."


def _batching(batched: Cell, best: Cell) -> tuple[list[tuple[str, str]], str]:
    ratio = batched.ratio(best)
    what = (
        f"Batches of {batched.setup.batch} answer {_times(ratio)} as many images/s as single ones"
    )
    if ratio.value >= _CLEAR and ratio.low > 1:
        file = "model-config.yaml of the archive"
        lines = [(file, "batching: always"), (file, f"batchSize: {batched.setup.batch}")]
        return lines, f"{what}, and each answer then waits for the whole batch."
    return [], f"{what}: leave batching as it is."


def _one_client(best: Cell, own: Sequence[Cell]) -> str:
    quickest = min(
        (each for each in own if each.setup.batch == 1), key=lambda each: each.latency(50).value
    )
    if quickest is best:
        return ""
    return (
        f"A single client is answered soonest with {quickest.setup}: in "
        f"{shown(1000 * quickest.latency(50).value)} ms (p50), with {best.setup} in "
        f"{shown(1000 * best.latency(50).value)} ms."
    )


def _memory(best: Cell) -> str:
    if not best.memory_mib:
        return ""
    count, each = best.setup.workers, f"{best.memory_mib:.0f} MiB"
    whose = f"1 worker takes {each}" if count == 1 else f"{count} workers take {each} each"
    total = best.memory_mib * count / 1024
    free = psutil.virtual_memory().available / 2**30
    return (
        f"{whose}, {total:.2g} GiB in all; {free:.2g} GiB are free here. TorchServe's own process "
        "comes to that."
    )


def _where_time_goes(best: Cell) -> str:
    steps = {name: best.step(name) for name in ("decode", "preprocess", "postprocess", "encode")}
    forward, around = best.step("forward"), sum(steps.values())
    share = around / (forward + around)
    if share < _MUCH:
        return f"The model itself takes {100 * (1 - share):.0f} % of an image's time."
    if steps["decode"] + steps["preprocess"] > steps["postprocess"] + steps["encode"]:
        hint = "send smaller images: they are resized to the model's own size anyway"
    else:
        hint = "ask for less where you can: a higher score_thresh, fewer max_detections, masks=none"
    return f"{100 * share:.0f} % of an image's time passes outside the model: {hint}."


def _times(ratio: Figure) -> str:
    if ratio.low == ratio.high:
        return f"{ratio.value:.2f} times"
    return f"{ratio.value:.2f} times ({ratio.low:.2f} to {ratio.high:.2f})"
