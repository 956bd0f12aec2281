"""Images as a caller of the library has them, and the one way from there to pixels.

A path or bytes are read as a server reads a file. A PIL image is what it would be after saving it.
"""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any, Union

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from d2serve.handlers.requests.decoding import decode
from d2serve.handlers.requests.pixels import check_pixels
from d2serve.handlers.spec.image_form import COLOUR, RGB, ImageForm
from d2serve.handlers.spec.limits import RequestLimits

Pixels = npt.NDArray[np.uint8]
GivenImage = Union[str, "os.PathLike[str]", bytes, Image.Image, npt.NDArray[np.uint8]]
"""A path, the bytes of an image file, a PIL image, or (H, W, channels) uint8 pixels: of most models
(H, W, 3) in RGB order, of others as ``spec.image_form`` says."""

_MODES_OF_PNG = {"1", "L", "LA", "I;16", "P", "RGB", "RGBA"}
_FASTEST_COMPRESSION = 1


def is_one(images: object) -> bool:
    """Whether this is a single image, and no sequence of them."""
    if isinstance(images, np.ndarray):
        return images.ndim < 4
    return isinstance(images, (str, bytes, os.PathLike, Image.Image))


def pixels_of(image: Any, name: str, limits: RequestLimits, form: ImageForm) -> Pixels:
    """The pixels of an image, as the model takes them.

    Args:
        image: see ``GivenImage``.
        name: what errors call it.
        limits: of files.
        form: of the images that the model takes.

    Raises:
        RequestError: it is no image, of another form, or larger than the limits.
        OSError: the file cannot be read.
    """
    if isinstance(image, (str, os.PathLike)):
        return decode(Path(image).read_bytes(), limits, form)
    if isinstance(image, bytes):
        return decode(image, limits, form)
    if isinstance(image, Image.Image):
        upright = ImageOps.exif_transpose(image)
        if upright.mode == RGB and form.channels == COLOUR.channels:
            return np.array(upright)
        return decode(as_png(upright), limits, form)
    check_pixels(image, form, name)
    return np.asarray(image)


def as_png(upright: Image.Image) -> bytes:
    """A PIL image as the bytes of a PNG file, which loses nothing of what PNG can hold."""
    image = upright if upright.mode in _MODES_OF_PNG else upright.convert(RGB)
    encoded = io.BytesIO()
    image.save(encoded, format="PNG", compress_level=_FASTEST_COMPRESSION)
    return encoded.getvalue()
