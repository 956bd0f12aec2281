"""One difference between two answers, with what a table and a picture have to know of it."""

from __future__ import annotations

from dataclasses import dataclass

Region = tuple[float, float, float, float]
"""x0, y0, x1, y1 in pixels of the image."""

MISSING, UNEXPECTED = "missing", "unexpected"
CLASSES, SCORES, BOXES = "pred_classes", "scores", "pred_boxes"
MASKS, KEYPOINTS = "pred_masks", "pred_keypoints"
SEM_SEG, PANOPTIC_SEG = "sem_seg", "panoptic_seg"
EXTRA = "extra"


@dataclass(frozen=True)
class Finding:
    """One difference between eager detectron2's answer to an image and an archive's."""

    field: str
    """One of the names above."""
    text: str
    """What differs, where and by how much, in words."""
    amount: float
    """In the field's own unit: pixels, a score, 1 - IoU of a mask."""
    share: float
    """How much that is of the whole, 0 to 1, so that fields can be ranked: of a box's side, of a
    score's range, of a mask, of the image. Of an instance times its score, so that doubtful ones
    come last; one that a side lacks is all of it."""
    differs: bool
    """Whether it is out of bounds."""
    region: Region
    """Where to look."""
    expected: int | None = None
    """Index of eager's instance, if it is one."""
    got: int | None = None
    """Index of the archive's."""


def ranked(findings: list[Finding]) -> list[Finding]:
    """What is out of bounds first, and of that the greatest share first."""
    return sorted(findings, key=lambda each: (not each.differs, -each.share))
