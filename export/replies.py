"""Why: a reply that went through JSON becomes the same record again, so both sides are alike."""

from __future__ import annotations

from typing import Any

import numpy as np

from d2serve.handlers.detections import Detections


def detections_of(reply: dict[str, Any]) -> Detections:
    """Read a reply of the response format, version 1."""
    image, instances = reply["image"], reply["instances"]
    masks = tuple(i["segmentation"] for i in instances if "segmentation" in i)
    keypoints = [i["keypoints"] for i in instances if "keypoints" in i]
    return Detections(
        height=image["height"],
        width=image["width"],
        boxes=np.array([i["bbox"] for i in instances], np.float32).reshape(-1, 4),
        scores=np.array([i["score"] for i in instances], np.float32),
        classes=np.array([i["category_id"] for i in instances], np.int64),
        masks=masks if masks else None,
        keypoints=np.array(keypoints, np.float32) if keypoints else None,
    )
