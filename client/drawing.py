"""Draw a prediction onto its image, because a picture shows in a second whether a model works.

The drawing itself is done by the supervision library; here it is told what to draw: masks and
boxes in one colour per category, a label with name and score, keypoints as dots. Sizes follow the
image's, so that a thumbnail is not all label and a photograph's lines can be seen.
"""

from __future__ import annotations

import colorsys
import math
import os
from pathlib import Path
from typing import Any, Union

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from d2serve.client.errors import DrawingError
from d2serve.client.responses import Instance, Prediction

Drawable = Union[str, "os.PathLike[str]", Image.Image, NDArray[np.uint8]]
"""A path, a PIL image, or an RGB array of shape (height, width, 3)."""

_GOLDEN_RATIO_TURN = 0.618033988749895
_MASK_OPACITY = 0.42
_FIRST_HUE = 0.58
_SATURATION, _VALUE = 0.85, 0.85


def draw(image: Drawable, prediction: Prediction, *, min_score: float = 0.0) -> Image.Image:
    """Return an RGB copy of ``image`` with the instances of ``prediction`` drawn onto it.

    ``image`` must be the one that was sent. Instances below ``min_score`` are left out.
    """
    sv = _supervision()
    canvas = _upright_rgb(image)
    if canvas.size != (prediction.width, prediction.height):
        raise DrawingError(
            f"The image is {canvas.width} x {canvas.height} but the prediction is for "
            f"{prediction.width} x {prediction.height}: expected the image that was sent."
        )
    shown = [instance for instance in prediction.instances if instance.score >= min_score]
    if not shown:
        return canvas
    pixels = np.asarray(canvas)[:, :, ::-1].copy()  # supervision draws on BGR
    detections = _detections(sv, shown)
    scale = math.sqrt(canvas.width * canvas.height) / 640
    thickness = max(1, round(2 * scale))
    colours = [_colour(sv, number) for number in range(1 + max(i.category_id for i in shown))]
    palette = sv.ColorPalette(colours)
    by_category = {"color": palette, "color_lookup": sv.ColorLookup.CLASS}
    if detections.mask is not None:
        pixels = sv.MaskAnnotator(opacity=_MASK_OPACITY, **by_category).annotate(pixels, detections)
        outline = sv.PolygonAnnotator(thickness=thickness, **by_category)
        pixels = outline.annotate(pixels, detections)
        thickness = max(1, thickness // 2)
    pixels = sv.BoxAnnotator(thickness=thickness, **by_category).annotate(pixels, detections)
    pixels = _draw_keypoints(sv, pixels, shown, radius=max(2, round(3 * scale)))
    labels = [f"{instance.label()} {instance.score:.2f}" for instance in shown]
    annotator = sv.LabelAnnotator(
        text_color=sv.ColorPalette([_readable_on(sv, colour) for colour in colours]),
        text_scale=max(0.3, 0.45 * scale),
        text_thickness=max(1, round(scale)),
        text_padding=max(2, round(4 * scale)),
        smart_position=True,
        **by_category,
    )
    pixels = annotator.annotate(pixels, detections, labels=labels)
    return Image.fromarray(np.ascontiguousarray(pixels[:, :, ::-1]))


def _supervision() -> Any:
    try:
        import supervision
    except ImportError as error:
        raise DrawingError(
            f"Drawing needs the supervision library ({error}): `pip install supervision`, or "
            "`pip install 'd2serve[client]'`."
        ) from error
    return supervision


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


def _detections(sv: Any, shown: list[Instance]) -> Any:
    has_masks = all(instance.segmentation is not None for instance in shown)
    return sv.Detections(
        xyxy=np.array([instance.bbox for instance in shown], dtype=np.float32),
        confidence=np.array([instance.score for instance in shown], dtype=np.float32),
        class_id=np.array([instance.category_id for instance in shown], dtype=int),
        mask=np.stack([instance.mask() for instance in shown]) if has_masks else None,
    )


def _draw_keypoints(
    sv: Any, pixels: NDArray[np.uint8], shown: list[Instance], radius: int
) -> NDArray[np.uint8]:
    with_keypoints = [instance.keypoints for instance in shown if instance.keypoints]
    if not with_keypoints:
        return pixels
    points = np.array([[(x, y) for x, y, _ in points] for points in with_keypoints], np.float32)
    keypoints = sv.KeyPoints(xy=points)
    for colour, size in ((sv.Color.BLACK, radius + 1), (sv.Color.WHITE, radius)):
        pixels = sv.VertexAnnotator(color=colour, radius=size).annotate(pixels, keypoints)
    return pixels


def _colour(sv: Any, number: int) -> Any:
    """Hues a golden-ratio turn apart, so that neighbouring categories differ most."""
    hue = (_FIRST_HUE + number * _GOLDEN_RATIO_TURN) % 1.0
    red, green, blue = colorsys.hsv_to_rgb(hue, _SATURATION, _VALUE)
    return sv.Color(r=round(255 * red), g=round(255 * green), b=round(255 * blue))


def _readable_on(sv: Any, background: Any) -> Any:
    """Black or white, by the background's luma (ITU-R BT.601)."""
    luma = 0.299 * background.r + 0.587 * background.g + 0.114 * background.b
    return sv.Color.BLACK if luma > 140 else sv.Color.WHITE
