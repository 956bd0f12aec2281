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
from d2serve.handlers.spec.image_form import BANDS, GREY, MOST_OF_A_FILE, RGB, RGBA, ImageForm

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


def check_holds(form: ImageForm) -> None:
    """Make sure that an image file can hold the bands that a model takes.

    Raises:
        InvalidImage: no file that is served has so many.
    """
    if form.channels > MOST_OF_A_FILE:
        raise InvalidImage(
            f"Got an image file, expected {form.described}: the files that are served hold "
            f"{MOST_OF_A_FILE} bands at most. Send the pixels over the Open Inference Protocol, as "
            f"UINT8 of shape [height, width, {form.channels}]."
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
    if pixels.shape[2] != form.channels or pixels.dtype != np.uint8:
        raise InvalidImage(
            f"Got an image of {_counted(pixels.shape[2])} ({image.mode}), expected "
            f"{form.channels} of 8 bits, as they are: this model takes {form.described}. Send a "
            f"PNG or TIFF of {_counted(form.channels)}, or pixels over the Open Inference Protocol."
        )
    return pixels


def _counted(bands: int) -> str:
    return f"{bands} band" if bands == 1 else f"{bands} bands"


def _with_channels(pixels: npt.NDArray[np.uint8]) -> Pixels:
    return pixels[:, :, None] if pixels.ndim == 2 else pixels
