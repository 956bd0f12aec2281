"""Draws what was found onto its image: the one drawing engine, of servers and of clients.

A picture shows a person in a second whether a model works. It is made with numpy and Pillow alone,
which a worker has, and takes about 8 bytes for each pixel beside the image and the outputs.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from d2serve.handlers.outputs.boxes import corners
from d2serve.handlers.outputs.records import Detections, Outputs, PanopticSeg
from d2serve.handlers.outputs.rle import decode_mask
from d2serve.handlers.replies.pen import Pen, colour_of
from d2serve.handlers.replies.tinting import Pixels, outline, tint, tint_labels
from d2serve.handlers.requests.options import JPEG
from d2serve.handlers.spec.model_spec import ModelSpec
from d2serve.handlers.spec.output_names import XYXY_ABS

CONTENT_TYPES = {"png": "image/png", "jpeg": "image/jpeg"}

PROPOSALS_DRAWN = 30
"""Of the thousand that there are: with more the picture is all boxes."""

_PROPOSAL_COLOUR = (255, 200, 0)
_LEAST_NAMED_SHARE = 0.002
"""Of the image: names of smaller regions would hide them."""
_SAMPLES = 256
"""Along either side: where the regions of a map are is looked up in so many of its rows and
columns."""


@dataclass(frozen=True)
class Legend:
    """What the numbers of an image's outputs mean."""

    box_mode: str
    class_names: Mapping[int, str]
    """By category of instances and things; empty where there are no names."""
    stuff_class_names: Mapping[int, str]
    """By label of sem_seg."""

    @staticmethod
    def of(spec: ModelSpec) -> Legend:
        """That of an archive's model."""
        return Legend(
            spec.box_mode,
            dict(enumerate(spec.class_names or ())),
            dict(enumerate(spec.stuff_class_names or ())),
        )

    def category(self, number: int) -> str:
        """Its name, or its number."""
        return self.class_names.get(number, f"#{number}")

    def stuff(self, number: int) -> str:
        """Its name, or its number."""
        return self.stuff_class_names.get(number, f"#{number}")


def draw(pixels: Pixels, outputs: Outputs, spec: ModelSpec, file_format: str) -> bytes:
    """The image file of a picture with what was found on it.

    Args:
        pixels: (H, W, 3) RGB, of the image as it was sent.
        outputs: what to draw, see ``picture_of``.
        spec: the model's.
        file_format: ``"png"`` or ``"jpeg"``.
    """
    picture = picture_of(pixels, outputs, Legend.of(spec))
    file = io.BytesIO()
    if file_format == JPEG:
        picture.save(file, "JPEG", quality=90)
    else:
        picture.save(file, "PNG", compress_level=1)
    return file.getvalue()


def picture_of(pixels: Pixels, outputs: Outputs, legend: Legend) -> Image.Image:
    """A copy of an image with all that was found in it.

    Classes and stuff are tinted and named, masks are tinted and outlined in the colour of their
    category, boxes have a label with name and score, keypoints are white dots; of proposals the
    best are drawn. Of a panoptic model the merged map is drawn: ``sem_seg`` shows as stuff alone,
    and instances that lost in the merge are left out. The best instances are on top.

    Args:
        pixels: (H, W, 3) RGB, of the image as it was sent; it is not changed.
        outputs: what was found.
        legend: what its numbers mean.
    """
    canvas = pixels.copy()
    regions = _regions(outputs)
    if regions is not None:
        labels, stuff = regions
        colours = {label: colour_of(category, stuff=True) for label, category in stuff.items()}
        tint_labels(canvas, labels, colours)
    shown = _shown(outputs)
    line = Pen.line_for(pixels.shape[1], pixels.shape[0])
    has_masks = False
    for i in reversed(shown):
        colour = colour_of(_category(outputs, i))
        for mask, top, left in _mask(outputs, i):
            has_masks = True
            part = canvas[top : top + mask.shape[0], left : left + mask.shape[1]]
            tint(part, mask, colour)
            part[outline(mask, line)] = colour
    picture = Image.fromarray(canvas)
    del canvas  # Pillow has a copy of its own
    pen = Pen(picture)
    if outputs.proposals is not None:
        best = np.argsort(-outputs.proposals.objectness_logits, kind="stable")[:PROPOSALS_DRAWN]
        for points in corners(outputs.proposals.boxes[best], XYXY_ABS):
            pen.box(points, _PROPOSAL_COLOUR, thin=True)
    if outputs.instances is not None:
        _draw_boxes(pen, outputs.instances, shown, legend, thin=has_masks)
    if regions is not None:
        _name_regions(pen, *regions, legend)
    pen.write_labels()
    return picture


def _regions(outputs: Outputs) -> tuple[npt.NDArray[np.int32], dict[int, int]] | None:
    """The map whose regions are tinted, and the stuff category of each label in it."""
    if outputs.panoptic_seg is not None:
        segments = outputs.panoptic_seg.segments
        # Without a score, a thing is none of the instances: it is drawn as stuff is.
        stuff = {each.id: each.category_id for each in segments if each.score is None}
        return outputs.panoptic_seg.labels, stuff
    if outputs.sem_seg is None:
        return None
    present = np.zeros(int(outputs.sem_seg.max(initial=-1)) + 1, np.bool_)
    for row in outputs.sem_seg:
        present[row] = True
    return outputs.sem_seg, {label: label for label in np.flatnonzero(present).tolist()}


def _shown(outputs: Outputs) -> list[int]:
    """Indices of the instances that are drawn, the best first."""
    if outputs.instances is None:
        return []
    panoptic = outputs.panoptic_seg
    if panoptic is None or all(each.score is None for each in panoptic.segments):
        return list(range(len(outputs.instances)))
    return sorted(_thing_ids(panoptic))


def _thing_ids(panoptic: PanopticSeg) -> dict[int, int]:
    """The id in the map of each instance that is there."""
    return {each.instance_id: each.id for each in panoptic.segments if each.instance_id is not None}


def _category(outputs: Outputs, i: int) -> int:
    assert outputs.instances is not None  # of which i is one
    return int(outputs.instances.classes[i])


def _mask(outputs: Outputs, i: int) -> Iterator[tuple[npt.NDArray[np.bool_], int, int]]:
    """The mask of an instance, cut to its rows and columns, and where they begin; none if it has
    no mask or no pixel of it is left."""
    found, panoptic = outputs.instances, outputs.panoptic_seg
    mask, left = None, 0
    if found is not None and found.masks is not None:
        mask, left = decode_mask(found.masks[i])
    if panoptic is not None:  # what the merge has left of the mask
        if mask is None:
            mask = np.ones(panoptic.labels.shape, np.bool_)
        columns = panoptic.labels[:, left : left + mask.shape[1]]
        mask = mask & (columns == _thing_ids(panoptic)[i])
    rows = np.flatnonzero(mask.any(axis=1)) if mask is not None else np.zeros(0, np.intp)
    if mask is not None and len(rows):
        yield mask[rows[0] : rows[-1] + 1], int(rows[0]), left


def _draw_boxes(
    pen: Pen, found: Detections, shown: list[int], legend: Legend, *, thin: bool
) -> None:
    boxes = corners(found.boxes, legend.box_mode)
    for i in reversed(shown):  # the best on top
        pen.box(boxes[i], colour_of(int(found.classes[i])), thin=thin)
    for i in reversed(shown):
        for x, y, _ in () if found.keypoints is None else found.keypoints[i].tolist():
            pen.dot(x, y)
    for i in shown:  # the best has its place first
        category = int(found.classes[i])
        text = f"{legend.category(category)} {found.scores[i]:.2f}"
        pen.label_of_box(text, boxes[i], colour_of(category))


def _name_regions(
    pen: Pen, labels: npt.NDArray[np.int32], stuff: Mapping[int, int], legend: Legend
) -> None:
    """Write the names of all regions but the smallest at the pixel nearest to their middle."""
    height, width = labels.shape
    down, along = max(1, height // _SAMPLES), max(1, width // _SAMPLES)
    sampled = labels[down // 2 :: down, along // 2 :: along]
    for label, category in stuff.items():
        y, x = np.nonzero(sampled == label)
        if len(x) < max(1, _LEAST_NAMED_SHARE * sampled.size):
            continue
        nearest = int(np.argmin((x - x.mean()) ** 2 + (y - y.mean()) ** 2))
        at = (int(x[nearest]) * along + along // 2, int(y[nearest]) * down + down // 2)
        pen.label_at(legend.stuff(category), at, colour_of(category, stuff=True))
