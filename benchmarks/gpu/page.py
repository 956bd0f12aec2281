"""The two tables of a run on a GPU, as Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.gpu.parity import ParityRow
from benchmarks.gpu.plan import FORMS
from benchmarks.gpu.speed import EAGER, Timed
from benchmarks.shared.table import Table, spread

_LABELS = {EAGER: "eager detectron2", **{name: form.label for name, form in FORMS.items()}}


def parity_table(rows: Sequence[ParityRow]) -> Table:
    """How far each program is from eager detectron2 on the same GPU."""
    return Table(
        "Answers beside eager detectron2's on the same GPU",
        "Of trained models on held-out images: in batches of mixed sizes, and one by one over a "
        "TorchServe with that GPU. Products of fp32 are computed in fp32 on every side, not in "
        "TF32. Outside: answers that are not within the runtime's bounds (docs/runtimes.md), to "
        "which fp16 is not held; its price is in AP.",
        ("model, form", "answers", "instances", "outside", "box, px", "score", "masks", "AP"),
        tuple(_parity_row(row) for row in rows),
    )


def _parity_row(row: ParityRow) -> tuple[str, ...]:
    name = f"{row.model}, {_LABELS[row.form]}"
    if row.refused:
        return (name, f"refused: {row.refused}", *[""] * 6)
    return (
        name,
        str(row.images),
        str(row.detections),
        str(row.outside),
        f"{row.box_px:.1e}",
        f"{row.score:.1e}",
        str(row.masks_differing),
        row.accuracy,
    )


def speed_table(found: Sequence[Timed]) -> Table:
    """How fast each side is, by the size of the batch."""
    return Table(
        "Throughput and latency beside eager detectron2 on the same GPU",
        "Mask R-CNN R50-FPN at full size with random weights, from pixels to run lengths, in one "
        "process. Median of the rounds (lowest to highest); the sides take turns, and the ratio is "
        "of images per second within a round. Eager torch computes in its own defaults, TF32 where "
        "it does.",
        ("side", "batch", "images/s", "latency of the batch, ms", "ratio to eager", "instances"),
        tuple(
            (
                _LABELS[each.side],
                str(each.batch),
                spread(each.images_per_second, 2),
                f"{1000 * each.seconds.value:.1f}",
                spread(each.ratio, 2),
                str(each.instances),
            )
            for each in found
        ),
    )
