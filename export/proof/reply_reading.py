"""Why: a reply that went through JSON becomes the same record again, so both sides are alike."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
from PIL import Image

from d2serve.handlers.outputs.records import (
    Detections,
    Int32,
    Outputs,
    PanopticSeg,
    Proposals,
    Segment,
)


def outputs_of(reply: dict[str, Any]) -> Outputs:
    """Read a reply of the response format, version 1."""
    height, width = reply["image"]["height"], reply["image"]["width"]
    return Outputs(
        height=height,
        width=width,
        instances=_detections(reply["instances"], height, width) if "instances" in reply else None,
        sem_seg=_labels(reply["sem_seg"]) if "sem_seg" in reply else None,
        panoptic_seg=_panoptic(reply["panoptic_seg"]) if "panoptic_seg" in reply else None,
        proposals=_proposals(reply["proposals"]) if "proposals" in reply else None,
    )


def _detections(instances: list[dict[str, Any]], height: int, width: int) -> Detections:
    masks = tuple(i["segmentation"] for i in instances if "segmentation" in i)
    keypoints = [i["keypoints"] for i in instances if "keypoints" in i]
    boxes = np.array([i["bbox"] for i in instances], np.float32)
    return Detections(
        height=height,
        width=width,
        boxes=boxes if len(instances) else boxes.reshape(-1, 4),
        scores=np.array([i["score"] for i in instances], np.float32),
        classes=np.array([i["category_id"] for i in instances], np.int64),
        masks=masks if masks else None,
        keypoints=np.array(keypoints, np.float32) if keypoints else None,
    )


def _labels(label_map: dict[str, Any]) -> Int32:
    with Image.open(io.BytesIO(base64.b64decode(label_map["png"]))) as image:
        return np.asarray(image).astype(np.int32)


def _panoptic(panoptic: dict[str, Any]) -> PanopticSeg:
    segments = tuple(
        Segment(
            id=each["id"],
            category_id=each["category_id"],
            isthing=each["isthing"],
            area=each["area"],
            score=each.get("score"),
            instance_id=each.get("instance_id"),
        )
        for each in panoptic["segments_info"]
    )
    return PanopticSeg(_labels(panoptic), segments)


def _proposals(proposals: list[dict[str, Any]]) -> Proposals:
    return Proposals(
        boxes=np.array([p["bbox"] for p in proposals], np.float32).reshape(-1, 4),
        objectness_logits=np.array([p["objectness_logit"] for p in proposals], np.float32),
    )
