"""Why: the same bytes must become the same pixels as detectron2's ``read_image`` makes of them.

So Pillow decodes, or what gives its pixels faster; EXIF orientation is applied, and every mode
(grey, palette, alpha, CMYK, 16-bit) goes through the same ``convert("RGB")``. What cannot be
decoded is the client's 4xx.
"""

from __future__ import annotations

import io

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from d2serve.handlers.errors import (
    EmptyRequest,
    ImageTooLarge,
    InvalidImage,
    UnsupportedImageFormat,
)
from d2serve.handlers.jpeg import decode_fast

# JPEG includes MPO, what phones write into .jpg files with a second picture.
FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "TIFF", "GIF")

# Pillow warns of a decompression bomb above this many pixels; a server should not go there.
MAX_PIXELS = 89_478_485

_EXIF_ORIENTATION = 0x0112
_TRANSPOSE_FOR = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def decode(data: bytes) -> npt.NDArray[np.uint8]:
    """Decode an image file as ``detectron2.data.detection_utils.read_image(file, "RGB")`` does.

    Args:
        data: a JPEG, PNG, BMP, WebP, TIFF or GIF file (of animations, the first frame).

    Returns:
        (H, W, 3) uint8 in RGB order, orientation applied.

    Raises:
        EmptyRequest, UnsupportedImageFormat, ImageTooLarge, InvalidImage.
    """
    if not data:
        raise EmptyRequest("Got no bytes, expected an image file as body or as field 'data'.")
    image = _open(data)
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise ImageTooLarge(
            f"Got an image of {width}x{height} pixels, expected at most {MAX_PIXELS:,} pixels. "
            "Scale it down: the model resizes it anyway."
        )
    try:
        pixels = _pixels(data, image)
    # Decoders raise nearly anything on damaged data (OSError, SyntaxError, struct.error, ...).
    except Exception as error:
        raise InvalidImage(
            f"Got {len(data)} bytes that start as {image.format} but cannot be decoded "
            f"({_one_line(error)}). The file is probably truncated or damaged: send it again whole."
        ) from None
    if pixels.size == 0:
        raise InvalidImage(f"Got an image of {width}x{height} pixels, expected at least 1x1.")
    return pixels


def _pixels(data: bytes, image: Image.Image) -> npt.NDArray[np.uint8]:
    method = _transposition(image)
    decoded = decode_fast(data, image)
    if decoded is not None:
        if method is None:
            return decoded
        image = Image.fromarray(decoded)
    if method is not None:
        image = image.transpose(method)
    image.load()  # before which a file of several pictures may tell of another mode
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))


def _open(data: bytes) -> Image.Image:
    try:
        return Image.open(io.BytesIO(data), formats=FORMATS)
    except UnidentifiedImageError:
        raise UnsupportedImageFormat(
            f"Got {len(data)} bytes starting with {data[:8]!r}, which is no "
            f"{', '.join(FORMATS)} file. Send the bytes of an image file, not its path, URL "
            "or base64 text."
        ) from None
    except Image.DecompressionBombError as error:
        raise ImageTooLarge(
            f"{_one_line(error)} Expected at most {MAX_PIXELS:,} pixels: scale the image down."
        ) from None
    except Exception as error:
        raise InvalidImage(
            f"Got {len(data)} bytes with a damaged image header ({_one_line(error)}). "
            "Send the file again whole."
        ) from None


def _transposition(image: Image.Image) -> Image.Transpose | None:
    # As read_image: a broken EXIF block does not make the picture unreadable, and an orientation
    # that is text, bytes or no whole number is none.
    try:
        return _TRANSPOSE_FOR.get(image.getexif().get(_EXIF_ORIENTATION, 1))
    except Exception:
        return None


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text[:200]
