"""docs/coverage.md, made from the record of the runs and from nothing else."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from benchmarks.coverage.record import (
    DIFFERS,
    EXPORTS,
    FAILED,
    REFUSED,
    SCRIPTING,
    ZOO_KINDS,
    Cell,
    Coverage,
    Row,
)
from benchmarks.coverage.wording import in_short, power
from benchmarks.coverage.zoo import DETECTIONS, LONG_EDGE, PROPOSALS, SHORT_EDGE

PAGE = Path(__file__).resolve().parent.parent.parent / "docs" / "coverage.md"

_HEADER = (
    "| configuration | family | compared | tracing | scripting, with batches | onnxruntime "
    "| openvino |"
)
_RULE = "| --- | --- | ---: | --- | --- | --- | --- |"


def render(coverage: Coverage) -> str:
    """The page as Markdown."""
    letters = letters_of(coverage)
    parts = [
        _INTRODUCTION.format(
            versions=", ".join(f"{name} {version}" for name, version in coverage.versions.items()),
            cpu=cpus(coverage.zoo),
            days=days(coverage.zoo),
            summary=_summary(coverage.zoo),
        ),
        "## The model zoo\n",
        _ZOO.format(short=SHORT_EDGE, long=LONG_EDGE, proposals=PROPOSALS, detections=DETECTIONS),
        *_table(coverage.zoo, letters),
        "\n## Rewrites\n",
        "What upstream's module is replaced for; most are equivalents bit by bit.\n",
        *(f"- **{letters[name]}** `{name}`: {coverage.reasons[name]}" for name in letters),
        *messages(coverage.zoo),
    ]
    return "\n".join(parts).rstrip() + "\n"


def letters_of(coverage: Coverage) -> dict[str, str]:
    """Short names of the rewrites: r1, r2, ..."""
    return {name: f"r{number}" for number, name in enumerate(sorted(coverage.reasons), 1)}


def days(rows: dict[str, Row]) -> str:
    """When rows were made, as ``2026-11-29`` or ``2026-11-29 to 2026-11-30``."""
    made = sorted({day for row in rows.values() for day in row.made})
    return made[0] if len(made) == 1 else f"{made[0]} to {made[-1]}" if made else "never"


def cpus(rows: dict[str, Row]) -> str:
    """On what rows were made."""
    return " and ".join(sorted({cpu for row in rows.values() for cpu in row.cpus}))


def _summary(rows: dict[str, Row]) -> str:
    told = []
    for kind in ZOO_KINDS:
        verdicts = [row.cells[kind].verdict for row in rows.values()]
        counts = ((verdicts.count(each), words) for each, words in _IN_WORDS.items())
        told.append(f"{kind} {', '.join(f'{n} {words}' for n, words in counts if n)}")
    return f"Of {len(rows)} configurations: {'; '.join(told)}."


_IN_WORDS = {
    EXPORTS: "export within bounds",
    DIFFERS: "out of bounds",
    REFUSED: "refused",
    FAILED: "failed",
}


def _table(rows: dict[str, Row], letters: dict[str, str]) -> Iterable[str]:
    yield _HEADER
    yield _RULE
    for row in rows.values():
        name = row.config if row.same_as is None else f"{row.config} (as {row.same_as})"
        cells = [in_words(row.cells[kind], letters) for kind in ZOO_KINDS]
        yield f"| {' | '.join([name, row.family or '', compared(row), *cells])} |"


def compared(row: Row) -> str:
    """Instances, proposals or labels on which the kinds without batches were compared."""
    return str(max((c.detections for kind, c in row.cells.items() if kind != SCRIPTING)) or "")


def in_words(cell: Cell, letters: dict[str, str]) -> str:
    """A cell as its table has it; ``letters`` are short names of the rewrites."""
    if cell.verdict == REFUSED:
        return f"no: {_escaped(in_short(cell.message))}"
    if cell.verdict == FAILED:
        return f"**failed**: {_escaped(in_short(cell.message))}"
    rewrites = " ".join(letters[name] for name in cell.rewrites)
    found = f"{_difference(cell)}{f' ({rewrites})' if rewrites else ''}"
    if cell.verdict == DIFFERS:
        return f"**differs**: {cell.within} of {cell.detections} within bounds; {found}"
    return found


def _difference(cell: Cell) -> str:
    """The largest ones, or 0 where nothing differs in any digit."""
    told = [
        f"{power(value)}{unit}"
        for value, unit in (
            (cell.box_px, " px"),
            (cell.score, " score"),
            (cell.keypoint_px, " px of keypoints"),
        )
        if value
    ]
    told += [
        f"{count} {what}"
        for count, what in (
            (cell.masks_differing, "masks"),
            (cell.labels_differing, "pixels of sem_seg"),
            (cell.segments_differing, "pixels of panoptic_seg"),
        )
        if count
    ]
    return ", ".join(told) or "0"


def messages(rows: dict[str, Row]) -> Iterable[str]:
    """What the cells of a table say in short, in full."""
    for title, verdict in (
        ("What does not export", REFUSED),
        ("What is out of bounds", DIFFERS),
        ("What failed, and should not have", FAILED),
    ):
        yield from _messages(title, rows, verdict)


def _messages(title: str, rows: dict[str, Row], verdict: str) -> Iterable[str]:
    where: dict[str, dict[str, list[str]]] = {}
    for row in rows.values():
        for kind, cell in row.cells.items():
            if cell.verdict == verdict and row.same_as is None:
                where.setdefault(cell.message, {}).setdefault(row.config, []).append(kind)
    if where:
        yield f"\n## {title}\n"
    for message, configs in where.items():
        named = "; ".join(
            config if len(kinds) == len(rows[config].cells) else f"{config} ({', '.join(kinds)})"
            for config, kinds in configs.items()
        )
        yield f"- {named}: {_escaped(message)}"


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "\\<").replace("*", "\\*")


_INTRODUCTION = """\
# What exports, and how far from detectron2

`make coverage-table` makes this page from real runs: every model is built, exported by the
exporter's own functions, loaded as a server loads it, and asked beside eager detectron2
(DefaultPredictor; for a LazyConfig the same steps with its own model; for a batch the model itself)
on the same images. Nothing here is written by hand.

Made {days} on {cpu}, one thread, with {versions}.

{summary}

A cell says what differs most from eager detectron2 over all images: box coordinates in pixels,
scores (logits, of proposals), keypoints; masks that are not identical, pixels with another label. 0
means that no digit differs. r1, r2, ... are [rewrites](#rewrites). Within bounds means at most
0.01 px, a score of 1e-4 and identical masks on TorchScript, and at most 0.01 px, 1e-3 and a mask
IoU of at least 0.999 on ONNX Runtime and OpenVINO (`handlers/spec/bounds.py`). "compared" counts
the instances, proposals or labels in detectron2's answers; for scripted programs those to a batch
of two images of different shapes come on top.

Trained models, in every format that there is, are in [Formats](formats.md). What projects beyond
the model zoo give, Mask2Former, CenterNet2 and CenterMask2 among them, is in
[Export a model of your own](own_models.md#what-was-tried), as it was tried by hand.
"""

_ZOO = """\
One row for each configuration of `detectron2/model_zoo/configs`, without `Base-*.yaml` and
`common/`, which are parts of others, and `quick_schedules/`, which are upstream's own continuous
integration. Architectures are complete. So that a forward is cheap, images are resized to {short}
to {long} pixels, and {proposals} proposals and {detections} detections are kept.

Weights are random, from a seed, and settled (`benchmarks/coverage/weights.py`) so that tens of
objects are found at scores that differ. Such a model shows whether a program computes the same, not
how near a trained one comes: its candidates are nearly tied and its layers blow up rounding, so
that another runtime's last digit can change a mask's edge, or which box survives NMS. Each is asked
about three images of different shapes. "as ..." stands where a configuration describes the same
model at test time (another schedule, say) and shares its run.
"""
