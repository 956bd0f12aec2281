"""Names of what a program answers: detectron2's own."""

from __future__ import annotations

BOXES, SCORES, CLASSES = "pred_boxes", "scores", "pred_classes"
MASKS, KEYPOINTS = "pred_masks", "pred_keypoints"
HEATMAPS = "pred_keypoint_heatmaps"
SEM_SEG = "sem_seg"
PROPOSAL_BOXES, OBJECTNESS_LOGITS = "proposal_boxes", "objectness_logits"
PANOPTIC_SEG, SEGMENTS_INFO = "panoptic_seg", "segments_info"
"""Only of a program that holds the model's own postprocessing; others are merged afterwards."""

XYXY_ABS, XYWHA_ABS = "XYXY_ABS", "XYWHA_ABS"

IMAGE_OF_INSTANCE = "image_of_instance"
"""Of a program that takes batches: (instances of all images,) the index of each one's image."""


def answers_of_batches(outputs: tuple[str, ...]) -> tuple[str, ...]:
    """What a program that takes batches answers so that its spec's outputs can be told apart."""
    return outputs if set(outputs) == {SEM_SEG} else (*outputs, IMAGE_OF_INSTANCE)
