"""Why: classes and stuff have no boxes: they are drawn as tinted regions with their names inside.

The classes of ``sem_seg`` are drawn where the model gives nothing better; of ``panoptic_seg`` the
stuff is, as things are drawn as instances, with what the merge has left of their masks.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from d2serve.client.drawing_style import MASK_OPACITY, Pixels, Style
from d2serve.client.results.prediction import Prediction

_LEAST_NAMED_SHARE = 0.002
"""Of the image: names of smaller regions would hide them."""


@dataclass(frozen=True)
class Region:
    """The pixels of a class or of one kind of stuff."""

    category_id: int
    name: str
    mask: NDArray[np.bool_]


def regions_of(prediction: Prediction) -> list[Region]:
    """What is to be tinted, besides instances."""
    if prediction.panoptic_seg is not None:
        ids = prediction.panoptic_seg.label_map()
        stuff = (each for each in prediction.panoptic_seg.segments_info if not each.isthing)
        return [Region(each.category_id, each.label(), ids == each.id) for each in stuff]
    if prediction.sem_seg is not None:
        labels = prediction.sem_seg.label_map()
        return [
            Region(each.category_id, each.label(), labels == each.category_id)
            for each in prediction.sem_seg.classes
        ]
    return []


def draw_regions(style: Style, pixels: Pixels, regions: list[Region]) -> Pixels:
    """Tint ``pixels`` and write the names of all regions but the smallest."""
    if not regions:
        return pixels
    categories = [region.category_id for region in regions]
    masks = np.stack([region.mask for region in regions])
    tinted = style.sv.MaskAnnotator(
        opacity=MASK_OPACITY, **style.by_category(categories, stuff=True)
    ).annotate(pixels, _detections(style, regions, masks))
    least = _LEAST_NAMED_SHARE * masks[0].size
    named = [region for region in regions if np.count_nonzero(region.mask) >= max(1, least)]
    if not named:
        return np.asarray(tinted)
    names = style.labels(categories, stuff=True, text_position=style.sv.Position.CENTER)
    labels = [region.name for region in named]
    return np.asarray(names.annotate(tinted, _detections(style, named, None), labels=labels))


def _detections(style: Style, regions: list[Region], masks: NDArray[np.bool_] | None) -> object:
    return style.sv.Detections(
        xyxy=np.array([_anchor(region.mask) * 2 for region in regions], dtype=np.float32),
        class_id=np.array([region.category_id for region in regions], dtype=int),
        mask=masks,
    )


def _anchor(mask: NDArray[np.bool_]) -> tuple[float, ...]:
    """The x and y of that pixel of the region which is nearest to its middle."""
    y, x = np.nonzero(mask)
    if not len(x):
        return (0.0, 0.0)
    nearest = int(np.argmin((x - x.mean()) ** 2 + (y - y.mean()) ** 2))
    return (float(x[nearest]), float(y[nearest]))
