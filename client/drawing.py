"""Draw a prediction onto its image, because a picture shows in a second whether a model works.

The drawing itself is done by the supervision library; here it is told what to draw: classes and
stuff as tinted regions, the best proposals as thin boxes, masks and boxes in one colour per
category, a label with name and score, keypoints as dots. Sizes follow the image's, so that a
thumbnail is not all label and a photograph's lines can be seen.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Union

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from d2serve.client.drawing_regions import draw_regions, regions_of
from d2serve.client.drawing_style import MASK_OPACITY, Pixels, Style, supervision
from d2serve.client.errors import DrawingError
from d2serve.client.results.instances import XYWHA
from d2serve.client.results.prediction import Instance, Prediction, Proposal

Drawable = Union[str, "os.PathLike[str]", Image.Image, NDArray[np.uint8]]
"""A path, a PIL image, or an RGB array of shape (height, width, 3)."""

PROPOSALS_DRAWN = 30
"""Of the hundreds that there are: with more the picture is all boxes."""


@dataclass(frozen=True)
class _Shown:
    """An instance that is drawn, with its mask, which a panoptic merge may have cut."""

    instance: Instance
    mask: NDArray[np.bool_] | None


def draw(image: Drawable, prediction: Prediction, *, min_score: float = 0.0) -> Image.Image:
    """Return an RGB copy of ``image`` with all that ``prediction`` holds drawn onto it.

    ``image`` must be the one that was sent. Instances below ``min_score`` are left out. Of a
    panoptic model the merged result is drawn: instances that lost in the merge are left out, and
    ``sem_seg`` only shows as stuff. Of proposals the best 30 are drawn.
    """
    sv = supervision()
    canvas = _upright_rgb(image)
    if canvas.size != (prediction.width, prediction.height):
        raise DrawingError(
            f"The image is {canvas.width} x {canvas.height} but the prediction is for "
            f"{prediction.width} x {prediction.height}: expected the image that was sent."
        )
    style = Style(scale=math.sqrt(canvas.width * canvas.height) / 640, sv=sv)
    pixels = np.asarray(canvas)[:, :, ::-1].copy()  # supervision draws on BGR
    pixels = draw_regions(style, pixels, regions_of(prediction))
    pixels = _draw_proposals(style, pixels, prediction.proposals or ())
    shown = [each for each in _shown(prediction) if each.instance.score >= min_score]
    if shown:
        pixels = _draw_instances(style, pixels, shown)
    return Image.fromarray(np.ascontiguousarray(pixels[:, :, ::-1]))


def _upright_rgb(image: Drawable) -> Image.Image:
    if isinstance(image, np.ndarray):
        return Image.fromarray(image).convert("RGB")
    if isinstance(image, Image.Image):
        return ImageOps.exif_transpose(image).convert("RGB")
    try:
        with Image.open(Path(image)) as opened:
            return ImageOps.exif_transpose(opened).convert("RGB")
    except OSError as error:
        raise DrawingError(f"The image {image} cannot be opened for drawing: {error}") from error


def _shown(prediction: Prediction) -> list[_Shown]:
    if prediction.panoptic_seg is None:
        return [
            _Shown(instance, None if instance.segmentation is None else instance.mask())
            for instance in prediction.instances
        ]
    ids = prediction.panoptic_seg.label_map()
    return [
        _Shown(prediction.instances[segment.instance_id], ids == segment.id)
        for segment in prediction.panoptic_seg.segments_info
        if segment.instance_id is not None
    ]


def _draw_proposals(style: Style, pixels: Pixels, proposals: tuple[Proposal, ...]) -> Pixels:
    best = sorted(proposals, key=lambda each: -each.objectness_logit)[:PROPOSALS_DRAWN]
    if not best:
        return pixels
    boxes = style.sv.Detections(
        xyxy=np.array([each.bbox for each in best], dtype=np.float32),
        class_id=np.zeros(len(best), dtype=int),
    )
    thin = style.sv.BoxAnnotator(thickness=max(1, style.thickness // 2), **style.by_category([0]))
    return np.asarray(thin.annotate(pixels, boxes))


def _draw_instances(style: Style, pixels: Pixels, shown: list[_Shown]) -> Pixels:
    sv, thickness = style.sv, style.thickness
    instances = [each.instance for each in shown]
    categories = [instance.category_id for instance in instances]
    by_category = style.by_category(categories)
    detections = _detections(sv, shown)
    if detections.mask is not None:
        pixels = sv.MaskAnnotator(opacity=MASK_OPACITY, **by_category).annotate(pixels, detections)
        outline = sv.PolygonAnnotator(thickness=thickness, **by_category)
        pixels = outline.annotate(pixels, detections)
        thickness = max(1, thickness // 2)
    rotated = instances[0].bbox_mode == XYWHA
    annotator = sv.OrientedBoxAnnotator if rotated else sv.BoxAnnotator
    pixels = annotator(thickness=thickness, **by_category).annotate(pixels, detections)
    pixels = _draw_keypoints(sv, pixels, instances, radius=max(2, round(3 * style.scale)))
    labels = [f"{instance.label()} {instance.score:.2f}" for instance in instances]
    named = style.labels(categories).annotate(pixels, detections, labels=labels)
    return np.asarray(named)


def _detections(sv: Any, shown: list[_Shown]) -> Any:
    masks = [each.mask for each in shown if each.mask is not None]
    corners = np.stack([each.instance.corners() for each in shown]).astype(np.float32)
    return sv.Detections(
        xyxy=np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1),
        confidence=np.array([each.instance.score for each in shown], dtype=np.float32),
        class_id=np.array([each.instance.category_id for each in shown], dtype=int),
        mask=np.stack(masks) if len(masks) == len(shown) else None,
        data={sv.config.ORIENTED_BOX_COORDINATES: corners},
    )


def _draw_keypoints(sv: Any, pixels: Pixels, shown: list[Instance], radius: int) -> Pixels:
    with_keypoints = [instance.keypoints for instance in shown if instance.keypoints]
    if not with_keypoints:
        return pixels
    points = np.array([[(x, y) for x, y, _ in points] for points in with_keypoints], np.float32)
    keypoints = sv.KeyPoints(xy=points)
    for colour, size in ((sv.Color.BLACK, radius + 1), (sv.Color.WHITE, radius)):
        pixels = sv.VertexAnnotator(color=colour, radius=size).annotate(pixels, keypoints)
    return pixels
