"""Writes docs/caffe2_evidence.md: what Caffe2 itself answered, beside ours and detectron2's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks.shared.machine import Machine
from benchmarks.shared.table import Table
from d2serve.export.proof.comparing.comparison import Difference

PAGE = Path(__file__).resolve().parents[2] / "docs" / "caffe2_evidence.md"

Comparison = Sequence[Difference | None]
"""Of two answers, image by image; None where Caffe2 stopped."""


@dataclass(frozen=True)
class Row:
    """What was compared of a subject."""

    name: str
    family: str
    upstreams: bool
    interpreter: Comparison
    """Caffe2 itself beside our interpreter."""
    ours: Comparison
    """Our interpreter beside eager detectron2."""
    eager: Comparison
    """Caffe2 itself beside eager detectron2."""
    zeros: Comparison
    """The same, images padded with zeros."""
    scale: Comparison
    """The same, told the scale."""
    both: Comparison
    """The same, both, as upstream's wrapper does."""


def render(rows: Sequence[Row], refused: Mapping[str, str], images: int, machine: Machine) -> str:
    """The page."""
    ours = [row for row in rows if not row.upstreams]
    upstreams = [row for row in rows if row.upstreams]
    return "\n".join(
        [
            "# Caffe2's own answers",
            "",
            "Made by `make caffe2-evidence`, which runs the files in Caffe2 itself: PyTorch 1.9.1 "
            "on Python 3.8, the last PyTorch that has it. "
            f"Each model answered the same {images} held-out images of the example data, of many "
            "sizes. A cell has the largest difference of a box in pixels and of a score; masks, "
            "keypoints and labels where there are any; and on how many images another number of "
            "instances was found, which then are not compared. A box is compared with the nearest "
            "of its class, so tens of pixels are another object. The reading side ran on torch "
            f"{machine.versions['torch']}.",
            "",
            _agreement("Files of `d2serve export --format caffe2`", ours).as_markdown(),
            *_refusals(refused),
            _agreement("Files of upstream's own tracer", upstreams).as_markdown(),
            "The models of these files are tiny. In mask_rcnn_fpn the RPN's layer is all zeros in "
            "some cells of p4, so logits there are the bias: up to 171 of the 420 of an image are "
            "equal to the bit, in Caffe2 as here. Caffe2 sorts with `std::sort`, which promises no "
            "order of equal ones; our interpreter has detectron2's, and so its boxes.",
            "",
            "Upstream's tracer enlarges heatmaps of keypoints by nearest neighbours, and maps of "
            "labels so that they fade towards the border, for which those differ.",
            "",
            _wrapper(rows).as_markdown(),
        ]
    )


def _agreement(title: str, rows: Sequence[Row]) -> Table:
    return Table(
        title=title,
        note="Caffe2 was given what our reader gives: padded with the mean, scale 1.",
        header=(
            "model",
            "detections",
            "Caffe2 and our interpreter",
            "Caffe2 and eager detectron2",
            "our interpreter and eager detectron2",
        ),
        rows=tuple(
            (
                row.name,
                str(_detections(row.eager)),
                *map(_cell, (row.interpreter, row.eager, row.ours)),
            )
            for row in rows
        ),
    )


def _wrapper(rows: Sequence[Row]) -> Table:
    return Table(
        title="What upstream's wrapper changes",
        note="Each beside eager detectron2. Upstream's `Caffe2Model` pads an image with zeros "
        "before the network subtracts the mean, and gives the network the scale by which the image "
        "was resized, which moves where it clips boxes.",
        header=("model", "mean, scale 1 (ours)", "zeros", "scale", "zeros and scale (upstream's)"),
        rows=tuple(
            (row.name, *map(_cell, (row.eager, row.zeros, row.scale, row.both))) for row in rows
        ),
    )


def _refusals(refused: Mapping[str, str]) -> Iterable[str]:
    if not refused:
        return
    yield "Not exported for Caffe2:\n"
    for name, reason in refused.items():
        yield f"- {name}: {reason}"
    yield ""


def _detections(comparison: Comparison) -> int:
    return sum(each.detections for each in comparison if each is not None)


def _cell(comparison: Comparison) -> str:
    answered = [each for each in comparison if each is not None]
    same = [d for d in answered if not _other_count(d)]
    parts = []
    if same and any(d.detections for d in same):
        parts.append(_boxes(same))
    masks = sum(d.masks_differing for d in same)
    if masks:
        parts.append(f"{masks} masks, IoU at least {min(d.mask_iou for d in same):.4f}")
    keypoints = _most(same, "keypoint_px")
    if keypoints:
        parts.append(f"keypoints {keypoints:.2g} px")
    for name in ("labels_differing", "segments_differing"):
        if most := _most(answered, name):
            parts.append(f"{int(most)} px of {name.partition('_')[0]}")
    if other := len(answered) - len(same):
        parts.append(f"**other count on {other} of {len(comparison)}**")
    if stopped := len(comparison) - len(answered):
        parts.append(f"**Caffe2 stops at {stopped} of {len(comparison)}**")
    return ", ".join(parts) or "equal"


def _boxes(comparison: Sequence[Difference]) -> str:
    worst, usual = _most(comparison, "box_px"), median(each.box_px for each in comparison)
    score = f"{_most(comparison, 'score'):.2g}"
    if worst < 0.1:  # pixels
        return f"{worst:.2g} px, {score}"
    return f"{worst:.1f} px (on the median image {usual:.2g}), {score}"


def _most(comparison: Sequence[Difference], field: str) -> float:
    return max((float(getattr(each, field)) for each in comparison), default=0.0)


def _other_count(difference: Difference) -> bool:
    return any(" instances, expected " in miss for miss in difference.misses)
