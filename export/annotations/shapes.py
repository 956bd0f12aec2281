"""Reads the shape of one annotation: its segmentation, box, area and keypoints."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from pycocotools import mask as coco_mask

Segmentation = list[list[float]] | dict[str, Any]
"""Polygons, each x0, y0, x1, y1, ... in pixels, or an RLE with ``size`` and ``counts``."""


def segmentation_of(annotation: Mapping[str, Any], height: int, width: int) -> Segmentation | None:
    """The segmentation, or None where there is none that pycocotools can read.

    Args:
        annotation: COCO's.
        height, width: of its image, in pixels.
    """
    given = annotation.get("segmentation")
    if isinstance(given, Mapping):
        whole = list(given.get("size") or ()) == [height, width] and given.get("counts")
        return dict(given) if whole and _is_readable(dict(given), height, width) else None
    if not isinstance(given, Sequence) or isinstance(given, str):
        return None
    if given and all(_is_number(each) for each in given):  # one polygon without its own list
        given = [given]
    polygons = [
        list(each)
        for each in given
        if isinstance(each, Sequence)
        and len(each) >= 6
        and len(each) % 2 == 0
        and all(_is_number(number) for number in each)
    ]
    return polygons or None


def box_of(annotation: Mapping[str, Any], shape: Segmentation | None) -> list[float] | None:
    """x, y, width and height in pixels, or None where there is neither box nor segmentation."""
    box = annotation.get("bbox")
    if isinstance(box, Sequence) and len(box) == 4 and all(_is_number(each) for each in box):
        return [float(each) for each in box]
    if shape is None:
        return None
    if isinstance(shape, dict):
        return [float(each) for each in coco_mask.toBbox(_rle(shape, *shape["size"]))]
    xs = [x for polygon in shape for x in polygon[0::2]]
    ys = [y for polygon in shape for y in polygon[1::2]]
    return [min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)]


def area_of(
    annotation: Mapping[str, Any],
    shape: Segmentation | None,
    box: Sequence[float],
    height: int,
    width: int,
) -> tuple[float, bool]:
    """Square pixels, and whether the annotation says them: otherwise they are those of its
    segmentation, as COCO has it, or of its box."""
    area = annotation.get("area")
    if _is_number(area):
        return float(area or 0), True
    if shape is not None:
        return float(coco_mask.area(_rle(shape, height, width))), False
    return box[2] * box[3], False


def keypoints_of(annotation: Mapping[str, Any]) -> list[float]:
    """x, y and visibility of each keypoint in one list; empty where there are none."""
    given = annotation.get("keypoints")
    if not isinstance(given, Sequence) or isinstance(given, str):
        return []
    flat = [n for each in given for n in (each if isinstance(each, Sequence) else [each])]
    return [float(n) for n in flat] if all(_is_number(n) for n in flat) else []


def _rle(shape: Segmentation, height: int, width: int) -> Any:
    if isinstance(shape, dict):
        if not isinstance(shape["counts"], list):
            return shape
        return coco_mask.frPyObjects(shape, height, width)
    return coco_mask.merge(coco_mask.frPyObjects(shape, height, width))


def _is_readable(shape: Segmentation, height: int, width: int) -> bool:
    try:
        coco_mask.area(_rle(shape, height, width))
    except Exception:  # pycocotools raises what its compiled part does
        return False
    return True


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
