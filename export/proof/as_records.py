"""detectron2's answers as the records that the handlers produce, to compare the two.

They are read by the names of their fields: whoever answers with the same ones need not be
detectron2.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from pycocotools import mask as coco_mask

from d2serve.handlers.outputs.records import Detections, PanopticSeg, Segment
from d2serve.handlers.outputs.rle import Rle


def detections_of(instances: Any) -> Detections:
    """Postprocessed Instances, on the CPU, as a record; without fields of a model's own."""
    height, width = instances.image_size
    keypoints = instances.pred_keypoints.numpy() if instances.has("pred_keypoints") else None
    masks = _encode(instances.pred_masks.numpy()) if instances.has("pred_masks") else None
    return Detections(
        height=height,
        width=width,
        boxes=instances.pred_boxes.tensor.numpy(),
        scores=instances.scores.numpy(),
        classes=instances.pred_classes.numpy(),
        masks=masks,
        keypoints=keypoints,
    )


def panoptic_of(labels: torch.Tensor, segments: list[dict[str, Any]]) -> PanopticSeg:
    """``panoptic_seg``, a map and what its segments are, as a record."""
    segment_ids = labels.cpu().numpy().astype(np.int32)
    return PanopticSeg(
        labels=segment_ids,
        segments=tuple(
            Segment(
                id=each["id"],
                category_id=each["category_id"],
                isthing=bool(each["isthing"]),
                # detectron2 has it for stuff only.
                area=int((segment_ids == each["id"]).sum()),
                score=each.get("score"),
                instance_id=each.get("instance_id"),
                label=each.get("label"),
            )
            for each in segments
        ),
    )


def _encode(masks: np.ndarray[tuple[int, int, int], np.dtype[np.bool_]]) -> tuple[Rle, ...]:
    encoded = (coco_mask.encode(np.asfortranarray(mask.astype(np.uint8))) for mask in masks)
    return tuple(
        {"size": [int(n) for n in rle["size"]], "counts": rle["counts"].decode("ascii")}
        for rle in encoded
    )
