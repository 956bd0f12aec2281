"""Why: one immutable record carries an image's answer from postprocessing to encoding."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from d2serve.handlers.rle import Rle

Float32 = npt.NDArray[np.float32]
RawOutputs = dict[str, npt.NDArray[np.generic]]
"""What a program answers for one image, by output name, in coordinates of the resized image:
pred_boxes (N, 4), scores (N,), pred_classes (N,), pred_masks (N, 1, M, M),
pred_keypoints (N, K, 3) or pred_keypoint_heatmaps (N, K, S, S)."""


@dataclass(frozen=True)
class Detections:
    """Instances of one image, by falling score, in pixels of the image as it was sent."""

    height: int
    width: int
    boxes: Float32
    """(N, 4) x0, y0, x1, y1 (XYXY_ABS)."""
    scores: Float32
    """(N,)"""
    classes: npt.NDArray[np.int64]
    """(N,) detectron2's contiguous class index."""
    masks: tuple[Rle, ...] | None
    """N COCO run-length encodings of the whole image, or None where the model has no masks."""
    keypoints: Float32 | None
    """(N, K, 3) x, y, score, or None where the model has no keypoints."""

    def __len__(self) -> int:
        return len(self.scores)
