"""What a caller may hand in as an image, and the bytes that are sent for it.

A file travels as it is, so that the server decodes exactly what a detectron2 user would have read.
Pixels (PIL, numpy) are sent as PNG, which loses nothing.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Union

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from d2serve.client.errors import InvalidInput
from d2serve.handlers.requests.given import as_png
from d2serve.handlers.spec.image_form import BANDS, MOST_OF_PILLOW

ImageInput = Union[str, "os.PathLike[str]", bytes, Image.Image, NDArray[Any]]
"""A path; the bytes of an encoded image file; a PIL image; or an array of uint8 of shape
(height, width) or (height, width, channels), of at most four channels."""


def encode_image(image: ImageInput, *, array_format: str = "BGR") -> bytes:
    """The bytes of an image file for ``image``.

    ``array_format`` is the channel order of a numpy array, "BGR" or "RGB": BGR is what
    ``cv2.imread`` gives and detectron2's DefaultPredictor takes. "bands" sends all channels as they
    are, to a model that takes other than colours. It means nothing for other inputs.
    """
    if isinstance(image, bytes):
        return _not_empty(image, "The image given as bytes")
    if isinstance(image, (bytearray, memoryview)):
        return _not_empty(bytes(image), "The image given as bytes")
    if isinstance(image, (str, os.PathLike)):
        return _read(Path(image))
    if isinstance(image, np.ndarray):
        return as_png(_from_array(image, array_format))
    if isinstance(image, Image.Image):
        return as_png(ImageOps.exif_transpose(image))
    raise InvalidInput(
        f"An image cannot be a {type(image).__name__}: expected a path, the bytes of an image "
        "file, a PIL image or a numpy array."
    )


def _read(path: Path) -> bytes:
    try:
        return _not_empty(path.read_bytes(), str(path))
    except OSError as error:
        raise InvalidInput(f"The image {path} cannot be read: {error.strerror}.") from error


def _not_empty(content: bytes, what: str) -> bytes:
    if not content:
        raise InvalidInput(f"{what} is empty (0 bytes): expected an encoded image.")
    return content


def _from_array(array: NDArray[Any], array_format: str) -> Image.Image:
    if array_format not in ("BGR", "RGB", BANDS):
        raise InvalidInput(f"array_format is {array_format!r}: expected 'BGR', 'RGB' or 'bands'.")
    channels = array.shape[2] if array.ndim == 3 else 1
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or array.size == 0:
        raise InvalidInput(
            f"The array has shape {array.shape} and type {array.dtype}: expected uint8 (0 to 255) "
            "of shape (height, width, channels) or (height, width)."
        )
    if channels > MOST_OF_PILLOW:
        raise InvalidInput(
            f"The array has shape {array.shape}: a PNG file, as which arrays are sent, holds no "
            f"more than {MOST_OF_PILLOW} channels. Save it as TIFF and send that, or send it over "
            "the Open Inference Protocol, as UINT8."
        )
    if channels not in (1, 3) and array_format != BANDS:
        raise InvalidInput(
            f"The array has shape {array.shape}: for a model of colours leave out what is no "
            "colour, image[:, :, :3]; for a model that takes all channels as they are say "
            "array_format='bands'."
        )
    if channels == 3 and array_format == "BGR":
        array = array[:, :, ::-1]
    if array.ndim == 3 and channels == 1:
        array = array[:, :, 0]
    return Image.fromarray(np.ascontiguousarray(array))
