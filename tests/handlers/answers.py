"""Answers of postprocessing, for the tests of what is made of them."""

from __future__ import annotations

from typing import Any

import numpy as np

from d2serve.handlers.outputs.records import Detections, Float32, Outputs
from d2serve.handlers.outputs.rle import Rle


def found(
    boxes: list[list[float]],
    masks: tuple[Rle, ...] | None = None,
    keypoints: Float32 | None = None,
) -> Detections:
    """Detections with falling scores and classes 0, 1, 2, ..."""
    count = len(boxes)
    return Detections(
        height=480,
        width=640,
        boxes=np.array(boxes, np.float32).reshape(count, 4),
        scores=np.linspace(0.9, 0.1, count, dtype=np.float32),
        classes=np.arange(count),
        masks=masks,
        keypoints=keypoints,
    )


def answer_with(instances: Detections | None = None, **others: Any) -> Outputs:
    """Outputs of an image of the size of ``found``'s."""
    fields = {"sem_seg": None, "panoptic_seg": None, "proposals": None, **others}
    return Outputs(480, 640, instances, **fields)
