"""Reads the shape of one annotation: its segmentation, box, area and keypoints."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from pycocotools import mask as coco_mask

from d2serve.handlers.outputs.rle import run_lengths

Segmentation = list[list[float]] | dict[str, Any]
"""Polygons, each x0, y0, x1, y1, ... in pixels, or an RLE with ``size`` and ``counts``."""

_FARTHEST = 200_000  # pixels; no image is as wide


def segmentation_of(annotation: Mapping[str, Any], height: int, width: int) -> Segmentation | None:
    """The segmentation, or None where there is none that pycocotools can read.

    Args:
        annotation: COCO's.
        height, width: of its image, in pixels.
    """
    given = annotation.get("segmentation")
    if isinstance(given, Mapping):
        return dict(given) if _covers(given, height, width) else None
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
        # pycocotools would draw any outline, however long, and end this process for it.
        and all(_is_number(number) and abs(number) <= _FARTHEST for number in each)
    ]
    return polygons or None


def box_of(
    annotation: Mapping[str, Any], shape: Segmentation | None
) -> tuple[list[float] | None, bool]:
    """x, y, width and height in pixels, and whether the annotation says them: otherwise they are
    those of its segmentation, or None where there is none."""
    box = annotation.get("bbox")
    if isinstance(box, Sequence) and len(box) == 4 and all(_is_number(each) for each in box):
        return [float(each) for each in box], True
    if shape is None:
        return None, False
    if isinstance(shape, dict):
        return [float(each) for each in coco_mask.toBbox(_rle(shape, *shape["size"]))], False
    xs = [x for polygon in shape for x in polygon[0::2]]
    ys = [y for polygon in shape for y in polygon[1::2]]
    return [min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)], False


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


def _covers(rle: Mapping[str, Any], height: int, width: int) -> bool:
    """Whether runs are those of an image of this size: pycocotools does not look."""
    counts = rle.get("counts")
    if rle.get("size") != [height, width]:
        return False
    if isinstance(counts, str) and counts.isascii():
        try:
            counts = run_lengths({"size": [height, width], "counts": counts}).tolist()
        except (ValueError, IndexError):  # no end of a number, for example
            return False
    if not isinstance(counts, list) or not all(type(each) is int and each >= 0 for each in counts):
        return False
    return sum(counts) == height * width


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
