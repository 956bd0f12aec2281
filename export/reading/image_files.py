"""Reads and writes the images of an export: files as a server reads them, and arrays.

Pillow writes no more than four bands. Images of more are written as arrays of numpy's, which only
the export reads: a client sends them as TIFF or as tensors.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from d2serve.handlers.errors import InvalidImage
from d2serve.handlers.requests.decoding import decode
from d2serve.handlers.requests.pixels import check_pixels
from d2serve.handlers.spec.image_form import MOST_OF_PILLOW, ImageForm

Pixels = npt.NDArray[np.uint8]
"""(H, W, channels) uint8, as ``bands_of`` gives them; colours in RGB order."""

ARRAY = ".npy"
SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif", ARRAY}
"""Of the files in a folder of images that are read."""


def read_image_file(path: Path, form: ImageForm) -> Pixels:
    """The pixels of an image file, or of a ``.npy`` file of (H, W, channels) uint8.

    Args:
        path: of the file.
        form: of the images that the model takes; colours in an array are in RGB order.

    Raises:
        OSError: the file cannot be read.
        RequestError: it cannot be decoded, or is of another form.
    """
    if path.suffix.lower() != ARRAY:
        return decode(path.read_bytes(), form=form)
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
    channels = pixels.shape[2]
    if channels > MOST_OF_PILLOW:
        file = path.with_name(f"{path.name}{ARRAY}")
        np.save(file, pixels)
        return file
    file = path.with_name(f"{path.name}.png")
    image = Image.fromarray(pixels[:, :, 0] if channels == 1 else pixels)
    image.save(file, compress_level=1)
    return file
