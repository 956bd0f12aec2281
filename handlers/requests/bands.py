"""Gives the bands of a decoded image that a model takes: colours, grey, or all as they are.

Where ``read_image`` of detectron2 has a form for it (BGR, RGB, L, RGBA), files become what it makes
of them. A model of other channels was trained on arrays that its user's own code has read, so the
bands of a file are taken as they are, and nothing is made up where they are too few.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image

from d2serve.handlers.errors import InvalidImage
from d2serve.handlers.spec.image_form import BANDS, GREY, MOST_OF_PILLOW, RGB, RGBA, ImageForm

Pixels = npt.NDArray[np.uint8]

# Indices into a palette and bits are no bands.
_AS_BANDS = {"1": "L", "P": "RGB", "PA": "RGBA"}


def bands_of(image: Image.Image, form: ImageForm) -> Pixels:
    """The pixels of a decoded image, as a model takes them.

    Args:
        image: of any mode.
        form: of the model's images.

    Returns:
        (H, W, channels) uint8; colours in RGB order.

    Raises:
        InvalidImage: the bands are taken as they are, and there are not as many.
    """
    if form.image_format == BANDS:
        return _as_they_are(image, form)
    mode = form.image_format if form.image_format in (GREY, RGBA) else RGB
    return _with_channels(np.asarray(image if image.mode == mode else image.convert(mode)))


def check_bands(bands: int, kind: str, form: ImageForm) -> None:
    """Make sure that an image has as many bands as a model takes, which are taken as they are.

    Args:
        bands: of the image.
        kind: what it is, in a word.
        form: of the model's images.

    Raises:
        InvalidImage: there are more or fewer.
    """
    if bands != form.channels:
        files = "PNG or TIFF" if form.channels <= MOST_OF_PILLOW else "TIFF"
        raise InvalidImage(
            f"Got an image of {_counted(bands)} ({kind}), expected {form.channels}, as they are: "
            f"this model takes {form.described}. Send a {files} of {_counted(form.channels)}, or "
            "pixels over the Open Inference Protocol."
        )


def check_holds(form: ImageForm) -> None:
    """Make sure that a file which Pillow decodes can hold the bands that a model takes.

    Raises:
        InvalidImage: it cannot.
    """
    if form.channels > MOST_OF_PILLOW:
        raise InvalidImage(
            f"Got an image file that is no TIFF of plain samples, expected {form.described}: "
            f"others hold {MOST_OF_PILLOW} bands at most. Send such a TIFF, or pixels over the "
            f"Open Inference Protocol, as UINT8 of shape [height, width, {form.channels}]."
        )


def viewable(pixels: Pixels) -> Pixels:
    """(H, W, 3) RGB of pixels of any channels: the first three, or the first as grey."""
    channels = pixels.shape[2]
    if channels == 3:
        return pixels
    return np.ascontiguousarray(pixels[:, :, [0, 1, 2] if channels > 3 else [0, 0, 0]])


def _as_they_are(image: Image.Image, form: ImageForm) -> Pixels:
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    elif image.mode in _AS_BANDS:
        image = image.convert(_AS_BANDS[image.mode])
    pixels = _with_channels(np.asarray(image))
    check_bands(pixels.shape[2], image.mode, form)
    return pixels


def _counted(bands: int) -> str:
    return f"{bands} band" if bands == 1 else f"{bands} bands"


def _with_channels(pixels: npt.NDArray[np.uint8]) -> Pixels:
    return pixels[:, :, None] if pixels.ndim == 2 else pixels
