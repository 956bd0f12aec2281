"""What every runtime takes and gives: float32 arrays in, named arrays out."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Float32 = npt.NDArray[np.float32]
Size = tuple[int, int]
"""(height, width) of an image as it was sent, in pixels."""
AnyArray = npt.NDArray[np.generic]
RawOutputs = dict[str, AnyArray]
"""What a program answers for one image, by output name, in coordinates of the resized image:
pred_boxes (N, 4), or (N, 5) where rotated, scores (N,), pred_classes (N,), pred_masks (N, 1, M, M),
pred_keypoints (N, K, 3) or pred_keypoint_heatmaps (N, K, S, S), of fewer instances where so asked
(``Details``);
sem_seg (C, Hp, Wp), logits of the resized image with its padding;
proposal_boxes (N, 4) and objectness_logits (N,).

Of a program that holds the model's own postprocessing, for the image as it was sent instead:
pred_masks (N, H, W), not zero inside; sem_seg (H, W), the label of each pixel; panoptic_seg (H, W),
ids of segments, and segments_info (S, 3), their id, category_id and isthing, or (S, 4) with the
label that detectron2 has for them."""
