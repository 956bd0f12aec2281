"""Decodes image files into the same pixels as detectron2's ``read_image`` makes of them.

Pillow decodes, or what gives its pixels faster; EXIF orientation is applied, and every mode
(grey, palette, alpha, CMYK, 16-bit) goes through the same ``convert``. What cannot be decoded is
the client's 4xx.
"""

from __future__ import annotations

import io
import time

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from d2serve.handlers.errors import (
    EmptyRequest,
    ImageTooLarge,
    ImageTooSlow,
    InvalidImage,
    RequestError,
    UnsupportedImageFormat,
)
from d2serve.handlers.requests.bands import bands_of, check_holds
from d2serve.handlers.requests.file_structure import structure_of
from d2serve.handlers.requests.jpeg import decode_fast
from d2serve.handlers.requests.tiff_bands import with_all_bands
from d2serve.handlers.spec.image_form import BANDS, COLOUR, ImageForm
from d2serve.handlers.spec.limits import DEFAULT_LIMITS, RequestLimits

# JPEG includes MPO, what phones write into .jpg files with a second picture.
FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "TIFF", "GIF")

# Pillow counts the frames of these by reading them all.
_COUNTED_BEFORE = ("TIFF", "GIF")

# A scan costs libjpeg 2 ns for each pixel of the picture, even if it says nothing; 5 on a busy CPU.
_SCANNED_PIXELS_PER_SECOND = 200_000_000

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


class _OutOfTime(Exception):
    pass


class _Timed(io.BytesIO):
    """A file that cannot be read any more after a deadline: Pillow reads as it goes."""

    def __init__(self, data: bytes, seconds: float) -> None:
        super().__init__(data)
        self._deadline = time.monotonic() + seconds

    def read(self, size: int | None = -1) -> bytes:
        if time.monotonic() > self._deadline:
            raise _OutOfTime
        return super().read(size)


def decode(
    data: bytes, limits: RequestLimits = DEFAULT_LIMITS, form: ImageForm = COLOUR
) -> npt.NDArray[np.uint8]:
    """Decode an image file as ``detectron2.data.detection_utils.read_image`` does.

    Args:
        data: a JPEG, PNG, BMP, WebP, TIFF or GIF file (of animations, the first frame).
        limits: of pixels, frames and seconds; as far as the header says them, they are checked
            before anything is decoded.
        form: of the images that the model takes.

    Returns:
        (H, W, channels) uint8, orientation applied; see ``bands_of``.

    Raises:
        EmptyRequest, UnsupportedImageFormat, ImageTooLarge, ImageTooSlow, InvalidImage.
    """
    if not data:
        raise EmptyRequest("Got no bytes, expected an image file: as the body or the field 'data'.")
    check_holds(form)
    if form.image_format == BANDS:
        data = with_all_bands(data)
    file = structure_of(data, limits.max_frames)
    _check_frames(file.frames, limits)
    if file.fragmented:
        raise ImageTooSlow(
            "Got an image file in more pieces (chunks, blocks, strips or tiles) than any software "
            "writes. Save the image again, as PNG or JPEG."
        )
    if file.canvas is not None:
        check_pixel_count(*file.canvas, limits)
    image = _open(data, limits)
    width, height = image.size
    check_pixel_count(width, height, limits)
    if image.format not in _COUNTED_BEFORE:
        _check_frames(getattr(image, "n_frames", 1), limits)
    scanned = file.scans * width * height
    if file.scans > 1 and scanned > limits.max_decode_seconds * _SCANNED_PIXELS_PER_SECOND:
        raise ImageTooSlow(
            f"Got a JPEG of {width}x{height} pixels in {file.scans} scans, which takes more than "
            f"{limits.max_decode_seconds:g} s to decode. Save it again, with the usual 10 or as "
            "baseline JPEG."
        )
    try:
        pixels = _pixels(data, image, form)
    except _OutOfTime:
        raise _timeout_error(limits) from None
    except RequestError:
        raise
    # Decoders raise nearly anything on damaged data (OSError, SyntaxError, struct.error, ...).
    except Exception as error:
        raise InvalidImage(
            f"Got {len(data)} bytes that start as {image.format} but cannot be decoded "
            f"({_one_line(error)}). The file is probably truncated or damaged: send it again whole."
        ) from None
    if pixels.size == 0:
        raise InvalidImage(f"Got an image of {width}x{height} pixels, expected at least 1x1.")
    return pixels


def check_pixel_count(width: int, height: int, limits: RequestLimits) -> None:
    """Refuse an image for its number of pixels.

    Raises:
        ImageTooLarge: there are more than the limit.
    """
    if width * height > limits.max_image_pixels:
        raise ImageTooLarge(
            f"Got an image of {width}x{height} pixels, expected at most "
            f"{limits.max_image_pixels:,} pixels. Scale it down: the model resizes it anyway."
        )


def _check_frames(frames: int, limits: RequestLimits) -> None:
    if frames > limits.max_frames:
        raise ImageTooLarge(
            f"Got an image file of more than {limits.max_frames:,} frames, of which only the "
            "first would be answered. Send that frame alone."
        )


def _timeout_error(limits: RequestLimits) -> RequestError:
    return ImageTooSlow(
        f"Got an image that was not decoded within {limits.max_decode_seconds:g} s. "
        "Scale it down, or save it again as PNG or baseline JPEG."
    )


def _pixels(data: bytes, image: Image.Image, form: ImageForm) -> npt.NDArray[np.uint8]:
    method = _transposition(image)
    decoded = decode_fast(data, image) if form.channels == COLOUR.channels else None
    if decoded is not None:
        if method is None:
            return decoded
        image = Image.fromarray(decoded)
    if method is not None:
        image = image.transpose(method)
    image.load()  # before which a file of several pictures may say another mode
    return bands_of(image, form)


def _open(data: bytes, limits: RequestLimits) -> Image.Image:
    try:
        return Image.open(_Timed(data, limits.max_decode_seconds), formats=FORMATS)
    except _OutOfTime:
        raise _timeout_error(limits) from None
    except UnidentifiedImageError:
        raise UnsupportedImageFormat(
            f"Got {len(data)} bytes starting with {data[:8]!r}, which is no "
            f"{', '.join(FORMATS)} file. Send the bytes of an image file, not its path, URL "
            "or base64 text."
        ) from None
    except Image.DecompressionBombError as error:
        raise ImageTooLarge(
            f"{_one_line(error)} Expected at most {limits.max_image_pixels:,} pixels: "
            "scale the image down."
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
