"""Draws a prediction onto its image, with the drawing engine that servers use for ``draw``."""

from __future__ import annotations

import io
import os
from dataclasses import replace
from pathlib import Path
from typing import Union

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from d2serve.client.errors import DrawingError
from d2serve.client.results.instances import XYXY
from d2serve.client.results.prediction import Prediction
from d2serve.handlers.replies.drawing import Legend, picture_of
from d2serve.handlers.requests.bands import viewable

Drawable = Union[str, "os.PathLike[str]", bytes, Image.Image, NDArray[np.uint8]]
"""A path, the bytes of an image file, a PIL image, or an array of shape (height, width, channels):
RGB, or other bands."""


def draw(image: Drawable, prediction: Prediction, *, min_score: float = 0.0) -> Image.Image:
    """Return an RGB copy of ``image`` with all that ``prediction`` holds drawn onto it.

    ``image`` must be the one that was sent. Instances below ``min_score`` are left out. Of a
    panoptic model the merged result is drawn: instances that lost in the merge are left out, and
    ``sem_seg`` only shows as stuff. Of proposals the best 30 are drawn.

    Raises:
        DrawingError: the image cannot be opened, or is not the one that was sent.
        MalformedReply: a mask or label map cannot be unpacked.
    """
    canvas = _upright_rgb(image)
    if canvas.size != (prediction.width, prediction.height):
        raise DrawingError(
            f"The image is {canvas.width} x {canvas.height} but the prediction is for "
            f"{prediction.width} x {prediction.height}: expected the image that was sent."
        )
    shown = _of_scores_from(min_score, prediction)
    return picture_of(np.asarray(canvas), shown.to_outputs(), _legend(shown))


def _upright_rgb(image: Drawable) -> Image.Image:
    if isinstance(image, np.ndarray):
        return Image.fromarray(image if image.ndim == 2 else viewable(image)).convert("RGB")
    if isinstance(image, Image.Image):
        return ImageOps.exif_transpose(image).convert("RGB")
    source = io.BytesIO(image) if isinstance(image, bytes) else Path(image)
    try:
        with Image.open(source) as opened:
            return ImageOps.exif_transpose(opened).convert("RGB")
    except OSError as error:
        name = f" {source}" if isinstance(source, Path) else ""
        raise DrawingError(f"The image{name} cannot be opened for drawing: {error}") from error


def _of_scores_from(least: float, prediction: Prediction) -> Prediction:
    kept = [i for i, each in enumerate(prediction.instances) if each.score >= least]
    places = {old: new for new, old in enumerate(kept)}
    panoptic = prediction.panoptic_seg
    if panoptic is not None:
        segments = tuple(
            replace(each, instance_id=places.get(each.instance_id))
            if each.instance_id is not None
            else each
            for each in panoptic.segments_info
        )
        panoptic = replace(panoptic, segments_info=segments)
    instances = tuple(prediction.instances[i] for i in kept)
    return replace(prediction, instances=instances, panoptic_seg=panoptic)


def _legend(prediction: Prediction) -> Legend:
    """The names that are in the reply."""
    modes = {each.bbox_mode for each in prediction.instances}
    stuff = [] if prediction.sem_seg is None else [*prediction.sem_seg.classes]
    names = {each.category_id: each.category_name for each in prediction.instances}
    stuff_names = {each.category_id: each.category_name for each in stuff}
    if prediction.panoptic_seg is not None:
        for each in prediction.panoptic_seg.segments_info:
            (names if each.isthing else stuff_names)[each.category_id] = each.category_name
    return Legend(modes.pop() if modes else XYXY, _present(names), _present(stuff_names))


def _present(names: dict[int, str | None]) -> dict[int, str]:
    return {number: name for number, name in names.items() if name is not None}
