"""Panoptic-DeepLab's answer in the terms of detectron2's other panoptic models.

It answers a map of labels, each a class times a divisor, plus a number, and -1 for none. It
describes no segments, and where it finds no thing it answers no instances.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from detectron2.structures import Boxes, Instances
from torch import nn


def described(
    model: nn.Module, predicted: Mapping[str, Any], height: int, width: int
) -> dict[str, Any]:
    """The model's dict for one image with ids of segments, what they are, and with instances.

    Args:
        model: detectron2's Panoptic-DeepLab.
        predicted: its own dict.
        height, width: of the image as it was sent, in pixels.
    """
    own: Any = model
    divisor = own.meta.label_divisor
    things = set(own.meta.thing_dataset_id_to_contiguous_id.values())
    labels = predicted["panoptic_seg"][0].cpu()
    ids = torch.zeros_like(labels)
    segments: list[dict[str, Any]] = []
    for number, label in enumerate((each for each in labels.unique().tolist() if each >= 0), 1):
        ids[labels == label] = number
        category = label // divisor
        segments.append(
            {"id": number, "category_id": category, "isthing": category in things, "label": label}
        )
    answer = {**predicted, "panoptic_seg": (ids, segments)}
    if own.predict_instances:
        answer.setdefault("instances", _no_instances(height, width))
    return answer


def _no_instances(height: int, width: int) -> Instances:
    return Instances(
        (height, width),
        pred_boxes=Boxes(torch.zeros(0, 4)),
        scores=torch.zeros(0),
        pred_classes=torch.zeros(0, dtype=torch.int64),
        pred_masks=torch.zeros(0, height, width, dtype=torch.bool),
    )
