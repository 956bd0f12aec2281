"""What was found, as labelling tools take it: a label, a place in the image, and a score if any.

Instances are one thing, the areas of a panoptic or semantic map another: a tool's adapter takes
those that the tool can show.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Callable

import numpy as np
from numpy.typing import NDArray

from d2serve.client.results.instances import XYWHA, Instance
from d2serve.client.results.prediction import Prediction
from d2serve.handlers.replies.polygons import contours

Mask = NDArray[np.bool_]
Outline = list[int]
"""x0, y0, x1, y1, … in pixels, along the edges between pixels."""


@dataclass(frozen=True)
class Region:
    """A part of the image with a label."""

    label: str
    """The category's name."""
    score: float | None
    """None of stuff."""
    mask: Callable[[], Mask]
    """Its pixels, (height, width); raises ValueError for an instance without a mask."""
    instance: Instance | None = None
    """None of an area of a map."""
    is_thing: bool = True

    def outlines(self) -> list[Outline]:
        """Those of the pieces of its mask; filled, they are its pixels, and those of its holes."""
        mask = self.mask()
        left, _, right, _ = extent(mask)
        return contours(mask[:, left:right], left)


@dataclass(frozen=True)
class Rectangle:
    """A box, turned around its centre."""

    left: float
    """In pixels, as of the sides before the turn."""
    top: float
    width: float
    height: float
    clockwise: float
    """In degrees, from 0 to below 360."""


def instances_of(prediction: Prediction) -> Iterator[Region]:
    """The instances, by falling score."""
    for each in prediction.instances:
        yield Region(each.label(), each.score, each.mask, each)


def areas_of(prediction: Prediction) -> Iterator[Region]:
    """The segments of the panoptic map, or else the classes of the semantic one."""
    if prediction.panoptic_seg is not None:
        labels = prediction.panoptic_seg.label_map()
        for segment in prediction.panoptic_seg.segments_info:
            mask = _equal(labels, segment.id)
            yield Region(segment.label(), segment.score, mask, is_thing=segment.isthing)
    elif prediction.sem_seg is not None:
        labels = prediction.sem_seg.label_map()
        for each in prediction.sem_seg.classes:
            yield Region(each.label(), None, _equal(labels, each.category_id), is_thing=False)


def at_least(score: float | None, regions: Iterator[Region]) -> Iterator[Region]:
    """Those of this score or a higher one, and those without a score."""
    lowest = 0.0 if score is None else score
    return (each for each in regions if each.score is None or each.score >= lowest)


def rectangle(instance: Instance) -> Rectangle:
    """The box of an instance, rotated or not."""
    if instance.bbox_mode != XYWHA:
        x0, y0, x1, y1 = instance.bbox
        return Rectangle(x0, y0, x1 - x0, y1 - y0, 0.0)
    centre_x, centre_y, width, height, angle = instance.bbox
    # Of a tiny negative number the remainder is 360 itself.
    clockwise = (-angle) % 360.0 % 360.0
    return Rectangle(centre_x - width / 2, centre_y - height / 2, width, height, clockwise)


def extent(mask: Mask) -> tuple[int, int, int, int]:
    """Of a mask's pixels left, top, and the first column and row behind them; zeros if none."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return 0, 0, 0, 0
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def named_keypoints(
    instance: Instance, names: Sequence[str]
) -> list[tuple[str, float, float, float]]:
    """The keypoints of an instance as name, x, y and score.

    Raises:
        ValueError: the model has another number of them.
    """
    points = instance.keypoints or ()
    if len(points) != len(names):
        raise ValueError(
            f"The model finds {len(points)} keypoints, and {len(names)} names were given "
            f"({', '.join(names)}): expected one for each, in the order in which the model was "
            "trained."
        )
    return [(name, *point) for name, point in zip(names, points)]


def _equal(labels: NDArray[np.int32], value: int) -> Callable[[], Mask]:
    return lambda: labels == value
