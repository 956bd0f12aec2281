"""What a detector finds: one typed value for each object, whichever kind of box it has."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from d2serve.client.errors import MalformedReply
from d2serve.client.results.extras import parse_extra
from d2serve.client.results.label_maps import RunLengthMask, parse_run_length_mask
from d2serve.client.results.polygon_masks import Polygon, PolygonMask, parse_polygon_mask
from d2serve.client.results.reply_fields import floats, optional, optional_text, required, typed
from d2serve.handlers.spec.extras import INSTANCE, Extra

Keypoint = tuple[float, float, float]
Box = tuple[float, ...]

XYXY = "XYXY_ABS"
XYWHA = "XYWHA_ABS"
_NUMBERS_OF = {XYXY: 4, XYWHA: 5}


@dataclass(frozen=True)
class Instance:
    """One detected object."""

    bbox: Box
    """(x0, y0, x1, y1); with ``bbox_mode`` XYWHA_ABS (centre x, centre y, width, height, angle),
    the angle in degrees counter-clockwise."""
    bbox_mode: str
    """A name of detectron2's BoxMode: XYXY_ABS or XYWHA_ABS."""
    score: float
    category_id: int
    category_name: str | None = None
    segmentation: RunLengthMask | PolygonMask | None = None
    """In the form that was asked for; ``mask()`` is the same of either, but for filled holes."""
    keypoints: tuple[Keypoint, ...] | None = None
    """(x, y, score) each, in the order of the model's keypoint names."""
    extra: Mapping[str, Any] = field(default_factory=dict, compare=False)
    """What the model's author added, by detectron2's name of the field: a number, or an array of
    its own type."""

    def mask(self) -> NDArray[np.bool_]:
        """The instance's mask over the whole image, boolean, of shape (height, width)."""
        if self.segmentation is None:
            raise ValueError(
                f"this {self.label()} has no mask: the model predicts none, or masks='none' was "
                "asked for"
            )
        return self.segmentation.decode()

    @property
    def polygons(self) -> tuple[Polygon, ...] | None:
        """The outlines of the mask, (x0, y0, x1, y1, …) each as COCO has them, where they were
        asked for by ``masks="polygon"``; otherwise None."""
        return self.segmentation.polygons if isinstance(self.segmentation, PolygonMask) else None

    def label(self) -> str:
        """The category's name, or its number where the model was exported without names."""
        return f"category {self.category_id}" if self.category_name is None else self.category_name

    def corners(self) -> NDArray[np.float64]:
        """The corners of the box, rotated or not, as x and y, of shape (4, 2), in pixels."""
        if self.bbox_mode == XYXY:
            x0, y0, x1, y1 = self.bbox
            return np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)])
        centre_x, centre_y, width, height, angle = self.bbox
        cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
        x = np.array([-0.5, 0.5, 0.5, -0.5]) * width
        y = np.array([-0.5, -0.5, 0.5, 0.5]) * height
        # y points down, so that the sines of a counter-clockwise turn change their signs.
        return np.stack([centre_x + cos * x + sin * y, centre_y - sin * x + cos * y], axis=1)


@dataclass(frozen=True)
class Proposal:
    """A place where the model expects some object."""

    bbox: Box
    """(x0, y0, x1, y1)"""
    bbox_mode: str
    objectness_logit: float


def parse_instances(
    value: Any, image: tuple[int, int], fields: Sequence[Extra] = ()
) -> tuple[Instance, ...]:
    """``instances`` of a reply for an image of this (height, width), with its ``extra_fields``."""
    instances = tuple(_instance(item, image, fields) for item in typed(value, list, "instances"))
    if len({instance.bbox_mode for instance in instances}) > 1:
        raise ValueError("'bbox_mode' differs between instances of one model")
    return instances


def parse_proposals(value: Any) -> tuple[Proposal, ...]:
    """``proposals`` of a reply."""
    return tuple(_proposal(item) for item in typed(value, list, "proposals"))


def have_all(instances: Sequence[Instance], name: str) -> bool:
    """Whether the instances have this field; False where there are none.

    Raises:
        MalformedReply: some have it and some have not.
    """
    having = sum(getattr(instance, name) is not None for instance in instances)
    if having not in (0, len(instances)):
        raise MalformedReply(
            f"{having} of {len(instances)} instances have {name!r}, expected all or none: the "
            "reply was not made by d2serve."
        )
    return having > 0


def keypoints_of(instances: Sequence[Instance]) -> NDArray[np.float32] | None:
    """Their keypoints, (N, K, 3) of x, y and score; None where they have none.

    Raises:
        MalformedReply: the instances have different numbers of them.
    """
    if not have_all(instances, "keypoints"):
        return None
    keypoints = [instance.keypoints or () for instance in instances]
    if len({len(points) for points in keypoints}) > 1:
        raise MalformedReply(
            "The instances have different numbers of keypoints, expected one number for a "
            "model: the reply was not made by d2serve."
        )
    return np.array(keypoints, np.float32).reshape(len(instances), -1, 3)


def _instance(item: Any, image: tuple[int, int], fields: Sequence[Extra]) -> Instance:
    bbox, mode = _box(item, (XYXY, XYWHA))
    return Instance(
        bbox=bbox,
        bbox_mode=mode,
        score=float(required(item, "score", (int, float))),
        category_id=required(item, "category_id", int),
        category_name=optional_text(item, "category_name"),
        segmentation=optional(item, "segmentation", lambda v: _segmentation(v, image)),
        keypoints=optional(item, "keypoints", _keypoints),
        extra=parse_extra(item, fields, INSTANCE),
    )


def _segmentation(value: Any, image: tuple[int, int]) -> RunLengthMask | PolygonMask:
    if isinstance(value, list):
        return parse_polygon_mask(value, image)
    return parse_run_length_mask(value, image)


def _proposal(item: Any) -> Proposal:
    bbox, mode = _box(item, (XYXY,))
    return Proposal(
        bbox=bbox,
        bbox_mode=mode,
        objectness_logit=float(required(item, "objectness_logit", (int, float))),
    )


def _box(item: Any, modes: tuple[str, ...]) -> tuple[Box, str]:
    numbers, mode = required(item, "bbox", list), required(item, "bbox_mode", str)
    if mode not in modes:
        raise ValueError(f"'bbox_mode' is {mode!r}, not {' or '.join(modes)}")
    return floats(numbers, _NUMBERS_OF[mode], "bbox"), mode


def _keypoints(value: Any) -> tuple[Keypoint, ...]:
    triples = (floats(point, 3, "keypoints") for point in typed(value, list, "keypoints"))
    return tuple((x, y, score) for x, y, score in triples)
