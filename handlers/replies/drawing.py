"""Draws what was found onto the image, with Pillow alone, which a worker has.

A picture shows a person in a second what was found, and needs no client to draw it. Sizes follow
the image's; a category has one colour. It takes 13 bytes a pixel at most, beside the image itself:
the canvas is tinted some rows at a time, in whole numbers.
"""

from __future__ import annotations

import colorsys
import io
import math
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from d2serve.handlers.outputs.boxes import corners
from d2serve.handlers.outputs.records import Detections, Outputs, Proposals
from d2serve.handlers.outputs.rle import decode_mask
from d2serve.handlers.requests.options import JPEG
from d2serve.handlers.spec.model_spec import XYXY_ABS, ModelSpec

Pixels = npt.NDArray[np.uint8]
Colour = tuple[int, int, int]

CONTENT_TYPES = {"png": "image/png", "jpeg": "image/jpeg"}

_OPACITY = 0.42
_PIXELS_AT_ONCE = 1 << 18
_PROPOSALS_DRAWN = 30  # of a thousand: with more the picture is all boxes
_PROPOSAL_COLOUR = (255, 200, 0)
_BLACK, _WHITE = (0, 0, 0), (255, 255, 255)


def draw(pixels: Pixels, outputs: Outputs, spec: ModelSpec, file_format: str) -> bytes:
    """The image file of a picture with what was found on it.

    Args:
        pixels: (H, W, 3) RGB, of the image as it was sent.
        outputs: what to draw; of a panoptic model, stuff from its map and things as instances.
        spec: the model's.
        file_format: ``"png"`` or ``"jpeg"``.
    """
    canvas = pixels.copy()
    _tint_stuff(canvas, outputs)
    found = outputs.instances
    if found is not None and found.masks is not None:
        for rle, category in zip(reversed(found.masks), found.classes[::-1].tolist()):
            mask, left = decode_mask(rle)
            part = canvas[:, left : left + mask.shape[1]]
            for rows in _bands(canvas):
                _tint(part[rows], mask[rows], _colour(category))
    image = Image.fromarray(canvas)
    del canvas  # of which Pillow has a copy
    pen = _Pen(image)
    if outputs.proposals is not None:
        pen.proposals(outputs.proposals)
    if found is not None:
        pen.instances(found, spec)
    file = io.BytesIO()
    if file_format == JPEG:
        image.save(file, "JPEG", quality=90)
    else:
        image.save(file, "PNG", compress_level=1)
    return file.getvalue()


def _tint_stuff(canvas: Pixels, outputs: Outputs) -> None:
    panoptic, labels = outputs.panoptic_seg, outputs.sem_seg
    if panoptic is not None:
        stuff = [(each.id, each.category_id) for each in panoptic.segments if not each.isthing]
        labels = panoptic.labels
    elif labels is not None:
        stuff = [(label, label) for label in np.unique(labels).tolist()]
    else:
        return
    for label, category in stuff:
        for rows in _bands(canvas):
            _tint(canvas[rows], labels[rows] == label, _colour(category, stuff=True))


def _bands(canvas: Pixels) -> Iterator[slice]:
    """All rows, some at a time."""
    step = max(_PIXELS_AT_ONCE // canvas.shape[1], 1)
    return (slice(start, start + step) for start in range(0, canvas.shape[0], step))


def _tint(canvas: Pixels, mask: npt.NDArray[np.bool_], colour: Colour) -> None:
    values = np.arange(256).astype(np.float32) * np.float32(1 - _OPACITY)
    for channel, tint in enumerate(np.array(colour, np.float32) * np.float32(_OPACITY)):
        tinted = (values + tint).astype(np.uint8)  # of each value that a pixel may have
        plane = canvas[:, :, channel]
        np.copyto(plane, tinted[plane], where=mask)


class _Pen:
    """Lines and words, as large as suits the image."""

    def __init__(self, image: Image.Image) -> None:
        self._draw = ImageDraw.Draw(image)
        self._size = image.size
        scale = math.sqrt(image.width * image.height) / 640
        self._line = max(1, round(2 * scale))
        self._font = _font(max(10, round(14 * scale)))

    def proposals(self, proposals: Proposals) -> None:
        best = corners(proposals.boxes[:_PROPOSALS_DRAWN], XYXY_ABS)
        for points in best:
            self._outline(points, _PROPOSAL_COLOUR, max(1, self._line // 2))

    def instances(self, found: Detections, spec: ModelSpec) -> None:
        outlines = corners(found.boxes, spec.box_mode)
        for i in reversed(range(len(found))):  # the best on top
            category = int(found.classes[i])
            self._outline(outlines[i], _colour(category), self._line)
        for i in reversed(range(len(found))):
            category = int(found.classes[i])
            for x, y, _ in () if found.keypoints is None else found.keypoints[i].tolist():
                self._dot(x, y)
            name = str(category) if spec.class_names is None else spec.class_names[category]
            left, top = outlines[i].min(axis=0).tolist()
            self._label(f"{name} {found.scores[i]:.2f}", left, top, _colour(category))

    def _outline(self, points: npt.NDArray[np.float32], colour: Colour, width: int) -> None:
        around = [tuple(point) for point in (*points.tolist(), points[0].tolist())]
        self._draw.line(around, fill=colour, width=width)

    def _dot(self, x: float, y: float) -> None:
        if abs(x) < 1e6 and abs(y) < 1e6:
            radius = self._line + 1
            box = (x - radius, y - radius, x + radius, y + radius)
            self._draw.ellipse(box, fill=_WHITE, outline=_BLACK)

    def _label(self, text: str, left: float, top: float, colour: Colour) -> None:
        text = text.encode("ascii", "replace").decode("ascii")  # Pillow's own font has no more
        box = self._draw.textbbox((0, 0), text, font=self._font)
        width, height = box[2] + 4, box[3] + 4
        left = min(max(left, 0), max(self._size[0] - width, 0))
        top = top - height if top >= height else max(top, 0)
        self._draw.rectangle((left, top, left + width, top + height), fill=colour)
        luma = 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2]  # ITU-R BT.601
        self._draw.text(
            (left + 2, top + 2), text, fill=_BLACK if luma > 140 else _WHITE, font=self._font
        )


def _font(size: int) -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    try:
        return ImageFont.load_default(size)
    except TypeError:  # Pillow before 10.1 has it in one size
        return ImageFont.load_default()


def _colour(number: int, stuff: bool = False) -> Colour:
    """Hues a golden ratio of a turn apart, so that neighbouring categories differ most."""
    hue = (0.58 + number * 0.618033988749895) % 1.0
    saturation, value = (0.45, 0.75) if stuff else (0.85, 0.85)
    red, green, blue = colorsys.hsv_to_rgb(hue, saturation, value)
    return round(255 * red), round(255 * green), round(255 * blue)
