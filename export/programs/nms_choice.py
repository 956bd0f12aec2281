"""Lets a traced program choose its NMS for each image, as eager torchvision does.

torchvision's ``batched_nms`` suppresses class by class where there are more than 1,000 boxes on a
CPU, and otherwise moves the classes apart and suppresses once. The two round differently. While it
is traced it takes the second for good (``batched_nms`` in torchvision/ops/boxes.py). Scripted, the
same function keeps its condition, within a trace as well. ONNX programs keep the one that moves the
classes apart.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torchvision.ops import boxes as box_ops


@contextmanager
def choosing_nms() -> Iterator[None]:
    """Within it, a trace keeps the condition by which torchvision chooses."""
    choosing = _scripted()
    before = box_ops._batched_nms_coordinate_trick
    # What batched_nms calls while it is traced, by whatever name a model has imported it.
    box_ops._batched_nms_coordinate_trick = choosing
    try:
        yield
    finally:
        box_ops._batched_nms_coordinate_trick = before


@cache
def _scripted() -> Any:
    return torch.jit.script(box_ops.batched_nms)


@contextmanager
def noticing_class_by_class() -> Iterator[list[int]]:
    """Collect for how many boxes eager torchvision suppresses class by class within."""
    counts: list[int] = []
    before = box_ops._batched_nms_vanilla

    def noticing(boxes: torch.Tensor, *others: Any) -> Any:
        counts.append(len(boxes))
        return before(boxes, *others)

    box_ops._batched_nms_vanilla = noticing
    try:
        yield counts
    finally:
        box_ops._batched_nms_vanilla = before
