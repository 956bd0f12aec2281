"""How far a program's answer may lie from eager detectron2's and still be the same answer.

Which bounds hold follows from how a program computes, so they belong to its runtime:
handlers/spec/runtimes.py.
"""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Bounds:
    """How far a program's answer may lie from eager detectron2's."""

    box_px: float
    """Of a box coordinate; of a rotated box also its angle, in degrees."""
    score: float
    """Of a score, or of a proposal's objectness logit."""
    keypoint_px: float
    mask_iou: float
    """Least IoU of a mask that differs by more than two pixels; 1 means identical RLE."""
    keypoint_ties: int
    """Keypoints of an image that may lie elsewhere with an equal score: a heatmap's peak can be
    shared by two pixels within rounding, and either is right."""
    label_share: float
    """Share of an image's pixels that may have another label of sem_seg or panoptic_seg, beside
    two: where the logits of two labels cross they are equal within rounding."""


TORCHSCRIPT_BOUNDS = Bounds(
    box_px=0.01, score=1e-4, keypoint_px=0.01, mask_iou=1.0, keypoint_ties=0, label_share=1e-5
)
# Its programs end at heatmaps, in which the handler looks for peaks: of two equal ones, another.
TORCH_EXPORT_BOUNDS = replace(TORCHSCRIPT_BOUNDS, keypoint_ties=1)
# Its operators are torch's own, but a weighted mean of a box or a mask is summed in another order.
CAFFE2_BOUNDS = Bounds(
    box_px=0.01, score=1e-4, keypoint_px=0.01, mask_iou=0.9999, keypoint_ties=1, label_share=1e-4
)
# Other libraries sum convolutions in another order.
ONNX_BOUNDS = Bounds(
    box_px=0.01, score=1e-3, keypoint_px=0.01, mask_iou=0.999, keypoint_ties=1, label_share=1e-4
)
