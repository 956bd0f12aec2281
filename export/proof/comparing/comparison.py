"""Compares a program's answer to an image with detectron2's, field by field.

What is out of bounds is named: the image, the field and by how much.
"""

from __future__ import annotations

from dataclasses import dataclass

from d2serve.export.proof.comparing.extra_comparison import compare_extras, compare_names
from d2serve.export.proof.comparing.instance_comparison import (
    InstanceDifference,
    compare_instances,
    compare_proposals,
)
from d2serve.export.proof.comparing.label_comparison import compare_labels, compare_panoptic
from d2serve.export.proof.reference import count_of
from d2serve.handlers.outputs.records import Outputs
from d2serve.handlers.spec.bounds import Bounds


@dataclass(frozen=True)
class Difference:
    """How far two answers to one image are apart."""

    image: str
    height: int
    width: int
    detections: int
    """Instances, proposals, otherwise labels that occur."""
    box_px: float
    """Largest difference of a box coordinate, in pixels."""
    score: float
    """Largest difference of a score, or of an objectness logit."""
    masks_differing: int
    """Masks whose RLE is not identical."""
    mask_iou: float
    """Least IoU of a mask."""
    keypoint_px: float
    """Largest difference of a keypoint coordinate, in pixels."""
    labels_differing: int
    """Pixels with another label of sem_seg."""
    segments_differing: int
    """Pixels in another segment of panoptic_seg."""
    extra: float
    """Largest difference of a number of the model's own fields and keys."""
    misses: tuple[str, ...]
    """What is out of bounds, in words; empty where the answers agree."""


def compare(image: str, expected: Outputs, got: Outputs, bounds: Bounds) -> Difference:
    """Compare a program's answer with detectron2's, field by field.

    Args:
        image: name of the image, for the record.
        expected: eager detectron2's answer.
        got: the program's.
        bounds: within which they agree.
    """
    misses: list[str] = []
    if (expected.height, expected.width) != (got.height, got.width):
        misses.append(
            f"image size {got.height}x{got.width}, expected {expected.height}x{expected.width}"
        )
    for field in ("instances", "sem_seg", "panoptic_seg", "proposals"):
        wanted, there = getattr(expected, field) is not None, getattr(got, field) is not None
        if wanted != there:
            misses.append(f"{field} is {'missing' if wanted else 'not expected'}")
    instances = InstanceDifference()
    if expected.instances is not None and got.instances is not None:
        instances = compare_instances(expected.instances, got.instances, bounds, misses)
    if expected.proposals is not None and got.proposals is not None:
        instances = compare_proposals(expected.proposals, got.proposals, bounds, misses)
    labels = segments = 0
    if expected.sem_seg is not None and got.sem_seg is not None:
        labels = compare_labels(expected.sem_seg, got.sem_seg, bounds, misses)
    if expected.panoptic_seg is not None and got.panoptic_seg is not None:
        segments = compare_panoptic(expected.panoptic_seg, got.panoptic_seg, bounds, misses)
    compare_names(expected.extra, got.extra, "", misses)
    extra = compare_extras(expected.extra, got.extra, "", bounds, misses)
    return Difference(
        image,
        expected.height,
        expected.width,
        count_of(expected),
        instances.box_px,
        instances.score,
        instances.masks_differing,
        instances.mask_iou,
        instances.keypoint_px,
        labels,
        segments,
        max(extra, instances.extra),
        tuple(misses),
    )
