"""The class or segment of each pixel: a map of numbers, and a list that explains them.

Two such pairs can be in a reply: ``sem_seg``, a class for every pixel, and ``panoptic_seg``,
things and stuff merged into segments that do not overlap, in the terms of COCO's panoptic task.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from d2serve.client.errors import MalformedReply
from d2serve.client.results.label_maps import (
    MAX_LABEL,
    LabelMap,
    PngLabelMap,
    RunLengthMask,
    parse_png,
    parse_run_length_mask,
    require_areas,
)
from d2serve.client.results.reply_fields import (
    image_size,
    natural,
    optional,
    optional_text,
    required,
)

_NO_LABEL = -1


@dataclass(frozen=True)
class SemSegClass:
    """A class that is present in the image; ``area`` in pixels."""

    category_id: int
    area: int
    category_name: str | None = None
    segmentation: RunLengthMask | None = None
    """Its pixels, where run lengths were asked for."""

    def label(self) -> str:
        """The class's name, or its number where the model was exported without names."""
        return f"class {self.category_id}" if self.category_name is None else self.category_name


@dataclass(frozen=True)
class SemSeg:
    """A class for every pixel: as one PNG, or as run lengths in each of the classes."""

    size: tuple[int, int]
    """(height, width)"""
    classes: tuple[SemSegClass, ...]
    """Those present, by ``category_id``."""
    png: PngLabelMap | None = None

    def label_map(self) -> LabelMap:
        """The class of each pixel, of shape (height, width), unpacked at each call.

        Raises:
            MalformedReply: it cannot be unpacked, or is not what ``classes`` says.
        """
        labels = self._painted() if self.png is None else self.png.decode()
        require_areas(labels, {each.category_id: each.area for each in self.classes}, "sem_seg")
        return labels

    def _painted(self) -> LabelMap:
        labels = np.full(self.size, _NO_LABEL, dtype=np.int32)
        for each in self.classes:
            if each.segmentation is not None:
                labels[each.segmentation.decode()] = each.category_id
        missing = int(np.count_nonzero(labels == _NO_LABEL))
        if missing:
            raise MalformedReply(
                f"{missing} of {labels.size} pixels are in the segmentation of no class of "
                "sem_seg: expected each pixel in exactly one. The reply was not made by d2serve."
            )
        return labels


@dataclass(frozen=True)
class PanopticSegment:
    """A segment of the panoptic map: one thing, or all of one kind of stuff."""

    id: int
    category_id: int
    """Of a thing a class of the instances, of stuff a class of ``sem_seg``."""
    isthing: bool
    area: int
    category_name: str | None = None
    score: float | None = None
    """Of things only, where the model gives them one."""
    instance_id: int | None = None
    """Of things only: the place in the prediction's ``instances``."""
    detectron2_label: int | None = None
    """``label`` in the reply: what Panoptic-DeepLab has at the segment's pixels, where detectron2
    answers no ``segments_info``."""

    def label(self) -> str:
        """The category's name, or its number where the model was exported without names."""
        kind = "category" if self.isthing else "class"
        return f"{kind} {self.category_id}" if self.category_name is None else self.category_name


@dataclass(frozen=True)
class PanopticSeg:
    """Things and stuff, merged as detectron2 merges them."""

    size: tuple[int, int]
    """(height, width)"""
    png: PngLabelMap
    segments_info: tuple[PanopticSegment, ...]
    """In detectron2's order: things by falling score, then stuff."""

    def label_map(self) -> LabelMap:
        """The ``id`` of each pixel's segment, 0 for none, of shape (height, width), unpacked at
        each call.

        Raises:
            MalformedReply: it cannot be unpacked, or is not what ``segments_info`` says.
        """
        labels = self.png.decode()
        said = {segment.id: segment.area for segment in self.segments_info}
        unlabelled = {0: labels.size - int(np.count_nonzero(labels))}
        require_areas(labels, {**said, **unlabelled}, "panoptic_seg")
        return labels


def parse_sem_seg(value: Any, image: tuple[int, int]) -> SemSeg:
    """``sem_seg`` of a reply for an image of this (height, width)."""
    size = image_size(value, image, "'sem_seg'")
    classes = tuple(_sem_seg_class(item, image) for item in required(value, "classes", list))
    _require_unique([each.category_id for each in classes], "category_id", "sem_seg")
    png = optional(value, "png", lambda text: parse_png(text, image))
    if png is None and (not classes or any(each.segmentation is None for each in classes)):
        raise ValueError("'sem_seg' has neither 'png' nor a 'segmentation' for each class")
    return SemSeg(size=size, classes=classes, png=png)


def _sem_seg_class(item: Any, image: tuple[int, int]) -> SemSegClass:
    return SemSegClass(
        category_id=natural(item, "category_id", most=MAX_LABEL),
        area=natural(item, "area"),
        category_name=optional_text(item, "category_name"),
        segmentation=optional(item, "segmentation", lambda v: parse_run_length_mask(v, image)),
    )


def parse_panoptic_seg(value: Any, image: tuple[int, int], instances: int) -> PanopticSeg:
    """``panoptic_seg`` of a reply with so many instances."""
    size = image_size(value, image, "'panoptic_seg'")
    segments = tuple(_segment(item, instances) for item in required(value, "segments_info", list))
    _require_unique([segment.id for segment in segments], "id", "panoptic_seg")
    return PanopticSeg(
        size=size,
        png=parse_png(required(value, "png", str), image),
        segments_info=segments,
    )


def _segment(item: Any, instances: int) -> PanopticSegment:
    isthing = bool(required(item, "isthing", bool))
    segment = PanopticSegment(
        id=natural(item, "id", least=1, most=MAX_LABEL),
        category_id=natural(item, "category_id"),
        isthing=isthing,
        area=natural(item, "area"),
        category_name=optional_text(item, "category_name"),
        # Models that do not merge instances into the map have neither.
        score=float(required(item, "score", (int, float))) if "score" in item else None,
        # Absent where the request left its instance out.
        instance_id=natural(item, "instance_id") if isthing and "instance_id" in item else None,
        detectron2_label=natural(item, "label") if "label" in item else None,
    )
    if segment.instance_id is not None and segment.instance_id >= instances:
        raise ValueError(f"'instance_id' is {segment.instance_id} of {instances} instances")
    return segment


def _require_unique(numbers: list[int], name: str, what: str) -> None:
    if len(set(numbers)) < len(numbers):
        raise ValueError(f"two entries of {what!r} have the same {name!r}")
