"""Takes boxes from the resized image to the one that was sent.

This is what ``detector_postprocess`` does to them, step by step and in float32: ``scale``, ``clip``
and ``nonempty`` of ``Boxes`` and of ``RotatedBoxes`` (boxes.py and rotated_boxes.py in
detectron2/structures).
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from d2serve.handlers.outputs.records import Float32
from d2serve.handlers.spec.output_names import XYWHA_ABS

# A rotated box is clipped where it is turned by no more degrees than this.
_CLIPPED_UP_TO = np.float32(1)


def scaled(boxes: Float32, mode: str, scale_x: float, scale_y: float) -> Float32:
    """New boxes, of the image enlarged by these factors; infinite where they overflow.

    A rotated box becomes a parallelogram; what detectron2 takes for it is the rectangle that keeps
    the lengths and one direction of its axes.

    Args:
        boxes: (N, 4) or (N, 5).
        mode: ``"XYXY_ABS"`` or ``"XYWHA_ABS"``.
    """
    boxes = boxes.copy()
    x, y = np.float32(scale_x), np.float32(scale_y)
    with np.errstate(over="ignore", invalid="ignore"):
        if mode != XYWHA_ABS:
            boxes[:, 0::2] *= x
            boxes[:, 1::2] *= y
            return boxes
        boxes[:, 0] *= x
        boxes[:, 1] *= y
        pi, half_turn = np.float32(math.pi), np.float32(180)
        angle = boxes[:, 4] * pi / half_turn
        cosine, sine = np.cos(angle), np.sin(angle)
        boxes[:, 2] *= np.sqrt(np.square(x * cosine) + np.square(y * sine))
        boxes[:, 3] *= np.sqrt(np.square(x * sine) + np.square(y * cosine))
        boxes[:, 4] = np.arctan2(x * sine, y * cosine) * half_turn / pi
    return boxes


def clipped(boxes: Float32, mode: str, height: int, width: int) -> Float32:
    """New boxes, within the image; of rotated ones only those that are nearly upright are clipped.

    Angles come out in [-180, 180).
    """
    boxes = boxes.copy()
    if mode != XYWHA_ABS:
        boxes[:, 0::2] = boxes[:, 0::2].clip(0, width)
        boxes[:, 1::2] = boxes[:, 1::2].clip(0, height)
        return boxes
    half_turn = np.float32(180)
    boxes[:, 4] = (boxes[:, 4] + half_turn) % np.float32(360) - half_turn
    upright = np.flatnonzero(np.abs(boxes[:, 4]) <= _CLIPPED_UP_TO)
    limits = np.array([width, height], np.float32)
    centres, sizes = boxes[upright, :2], boxes[upright, 2:4]
    low = np.clip(centres - sizes / 2, 0, limits)
    high = np.clip(centres + sizes / 2, 0, limits)
    boxes[upright, :2] = (low + high) / 2
    boxes[upright, 2:4] = np.minimum(sizes, high - low)
    return boxes


def nonempty(boxes: Float32, mode: str) -> npt.NDArray[np.intp]:
    """Indices of the boxes with a width and a height above 0."""
    if mode == XYWHA_ABS:
        return np.nonzero((boxes[:, 2] > 0) & (boxes[:, 3] > 0))[0]
    return np.nonzero((boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1]))[0]


def corners(boxes: Float32, mode: str) -> Float32:
    """(N, 4, 2) corners x, y of boxes, one after the other around each.

    Of a rotated box as ``RotatedBoxes`` has it: turned by its angle, in degrees, counter-clockwise
    as the image is seen.
    """
    if mode != XYWHA_ABS:
        return boxes[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 4, 2)
    angle = np.deg2rad(boxes[:, 4])
    cosine, sine = np.cos(angle) / 2, np.sin(angle) / 2
    along = np.stack([boxes[:, 2] * cosine, -boxes[:, 2] * sine], axis=1)
    down = np.stack([boxes[:, 3] * sine, boxes[:, 3] * cosine], axis=1)
    centre = boxes[:, :2]
    left, right = centre - along, centre + along
    around = np.stack([left - down, right - down, right + down, left + down], axis=1)
    return around.astype(np.float32)
