"""Reads and writes the images of an export: files as a server reads them, and arrays.

Pillow writes no more than four bands. Images of more are written as arrays of numpy's, which only
the export reads: a client sends them as TIFF or as tensors.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from d2serve.handlers.errors import InvalidImage
from d2serve.handlers.requests.decoding import decode
from d2serve.handlers.requests.pixels import check_pixels
from d2serve.handlers.requests.resizing import resized
from d2serve.handlers.spec.image_form import MOST_OF_PILLOW, ImageForm
from d2serve.handlers.spec.limits import DEFAULT_LIMITS, RequestLimits

Pixels = npt.NDArray[np.uint8]
"""(H, W, channels) uint8, as ``bands_of`` gives them; colours in RGB order."""

ARRAY = ".npy"
SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif", ARRAY}
"""Of the files in a folder of images that are read."""
_PNG_OVERHEAD = 1 << 17  # headers, and one byte each row


def read_image_file(path: Path, form: ImageForm, limits: RequestLimits = DEFAULT_LIMITS) -> Pixels:
    """The pixels of an image file, or of a ``.npy`` file of (H, W, channels) uint8.

    Args:
        path: of the file.
        form: of the images that the model takes; colours in an array are in RGB order.
        limits: of what is read.

    Raises:
        OSError: the file cannot be read.
        RequestError: it cannot be decoded, or is of another form.
    """
    if path.suffix.lower() != ARRAY:
        return decode(path.read_bytes(), limits, form)
    try:
        array = np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise InvalidImage(f"{path.name} is no array of numpy's ({error}).") from None
    check_pixels(array, form, path.name)
    pixels: Pixels = array
    return pixels


def write_image_file(pixels: Pixels, path: Path) -> Path:
    """Write pixels so that ``read_image_file`` and a server read the same again.

    Returns:
        The path with its suffix.
    """
    if pixels.shape[2] > MOST_OF_PILLOW:
        file = path.with_name(f"{path.name}{ARRAY}")
        np.save(file, pixels)
        return file
    file = path.with_name(f"{path.name}.png")
    file.write_bytes(_png(pixels))
    return file


def reduced(pixels: Pixels, most_pixels: int) -> Pixels:
    """An image of at most so many pixels, smaller where it has more."""
    height, width = pixels.shape[:2]
    if height * width <= most_pixels:
        return pixels
    scale = (most_pixels / (height * width)) ** 0.5
    return scaled(pixels, int(height * scale), int(width * scale))


def scaled(pixels: Pixels, height: int, width: int) -> Pixels:
    """An image at another size, of a pixel at least."""
    made: Pixels = np.rint(resized(pixels, max(height, 1), max(width, 1))).astype(np.uint8)
    return made


def servable(pixels: Pixels, limits: RequestLimits = DEFAULT_LIMITS) -> Pixels:
    """An image that an archive takes when it is written: smaller where it is beyond the limits.

    What is noise in a photo is incompressible, so its PNG can have ten times the bytes of the
    user's JPEG. At a byte for each value every image fits.
    """
    pixels = reduced(pixels, limits.max_image_pixels)
    channels = pixels.shape[2]
    most = limits.max_image_bytes - _PNG_OVERHEAD
    if channels > MOST_OF_PILLOW or pixels.size <= most:
        return pixels
    if len(_png(pixels)) <= limits.max_image_bytes:
        return pixels
    return reduced(pixels, most // channels)


def _png(pixels: Pixels) -> bytes:
    file = io.BytesIO()
    image = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
    image.save(file, "PNG", compress_level=1)
    return file.getvalue()
