"""Decodes image files into the same pixels as detectron2's ``read_image`` makes of them.

Pillow decodes, or what gives its pixels faster; EXIF orientation is applied, and every mode
(grey, palette, alpha, CMYK) goes through the same ``convert``. Samples of 16 bits become 8 as by
``cv2.imread``. What cannot be decoded is the client's 4xx.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from d2serve.handlers.errors import (
    EmptyRequest,
    ImageTooLarge,
    ImageTooSlow,
    InvalidImage,
    RequestError,
)
from d2serve.handlers.requests.bands import bands_of, check_bands, check_holds
from d2serve.handlers.requests.file_structure import structure_of
from d2serve.handlers.requests.formats.avif import frames_of, is_avif
from d2serve.handlers.requests.formats.refusals import check_page, check_planes, why_not_decoded
from d2serve.handlers.requests.formats.sixteen_bits import (
    conversion_of,
    is_read_by_hand,
    read_tiff,
    with_8_bits,
)
from d2serve.handlers.requests.formats.tiff import ORIENTATION, TiffPage, first_page
from d2serve.handlers.requests.formats.tiff_bands import is_of_bands, read_bands
from d2serve.handlers.requests.jpeg import decode_fast
from d2serve.handlers.requests.opening import OutOfTime, one_line, open_image, timeout_error
from d2serve.handlers.spec.image_form import BANDS, BGR, COLOUR, GREY, RGB, ImageForm
from d2serve.handlers.spec.limits import DEFAULT_LIMITS, RequestLimits
from d2serve.handlers.spec.sixteen_bit import OPENCV

Pixels = npt.NDArray[np.uint8]

# Pillow counts the frames of these by reading them all.
_COUNTED_BEFORE = ("TIFF", "GIF")

# A scan costs libjpeg 2 ns for each pixel of the picture, even if it says nothing; 5 on a busy CPU.
_SCANNED_PIXELS_PER_SECOND = 200_000_000

# One picture, its alpha, thumbnails and what hangs over of its tiles.
_PICTURES_OF_AVIF = 4

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


class Decoded(NamedTuple):
    """The pixels of a file, and what was done to its values beyond reading them."""

    pixels: Pixels
    """(H, W, channels) uint8, orientation applied; see ``bands_of``."""
    converted: str | None
    """None where they are the file's own."""


def decode(data: bytes, limits: RequestLimits = DEFAULT_LIMITS, form: ImageForm = COLOUR) -> Pixels:
    """The pixels of an image file; see ``read_file``."""
    return read_file(data, limits, form).pixels


def read_file(data: bytes, limits: RequestLimits, form: ImageForm = COLOUR) -> Decoded:
    """Decode an image file as ``detectron2.data.detection_utils.read_image`` does.

    Args:
        data: a JPEG, PNG, BMP, WebP, TIFF or GIF file (of animations, the first frame), or an AVIF
            file where Pillow reads it.
        limits: of pixels, frames and seconds; as far as the header says them, they are checked
            before anything is decoded.
        form: of the images that the model takes.

    Raises:
        EmptyRequest, UnsupportedImageFormat, ImageTooLarge, ImageTooSlow, InvalidImage.
    """
    if not data:
        raise EmptyRequest("Got no bytes, expected an image file: as the body or the field 'data'.")
    file = structure_of(data, limits.max_frames)
    _check_frames(file.frames, limits)
    if file.fragmented:
        raise ImageTooSlow(
            "Got an image file in more pieces (chunks, blocks, strips or tiles) than any software "
            "writes. Save the image again, as PNG or JPEG."
        )
    if file.canvas is not None:
        check_pixel_count(*file.canvas, limits)
    if is_avif(data):
        _check_avif(data, limits)
    page = first_page(data)
    if page is not None:
        check_page(page, len(data))
    if page is not None and form.image_format == BANDS and is_of_bands(page):
        check_bands(page.bands, "TIFF", form)
        name, (width, height) = "TIFF", page.size
        check_pixel_count(width * _in_pillows_pixels(page), height, limits)
        unpack = partial(read_bands, data, page, partial(open_image, limits=limits))
    elif page is not None and form.sixteen_bit == OPENCV and _is_by_hand(page, form):
        name, (width, height) = "TIFF", page.size
        check_pixel_count(width * page.bands, height, limits)
        unpack = partial(_by_hand, data, page, limits, form)
    else:
        check_holds(form)
        if page is not None:
            check_planes(page, len(data))
        image = open_image(data, limits)
        name, (width, height) = str(image.format), image.size
        check_pixel_count(width, height, limits)
        if name not in _COUNTED_BEFORE:
            _check_frames(getattr(image, "n_frames", 1), limits)
        _check_scans(file.scans, width, height, limits)
        unpack = partial(_pixels, data, image, form)
    try:
        pixels = unpack()
    except OutOfTime:
        raise timeout_error(limits) from None
    except RequestError:
        raise
    # Decoders raise nearly anything on damaged data (OSError, SyntaxError, struct.error, ...).
    except Exception as error:
        raise why_not_decoded(data, name, one_line(error)) from None
    if pixels.size == 0:
        raise InvalidImage(f"Got an image of {width}x{height} pixels, expected at least 1x1.")
    return Decoded(pixels, conversion_of(data, page, form.sixteen_bit))


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


def _check_scans(scans: int, width: int, height: int, limits: RequestLimits) -> None:
    if (
        scans > 1
        and scans * width * height > limits.max_decode_seconds * _SCANNED_PIXELS_PER_SECOND
    ):
        raise ImageTooSlow(
            f"Got a JPEG of {width}x{height} pixels in {scans} scans, which takes more than "
            f"{limits.max_decode_seconds:g} s to decode. Save it again, with the usual 10 or as "
            "baseline JPEG."
        )


def _check_avif(data: bytes, limits: RequestLimits) -> None:
    try:
        frames = frames_of(data)
    except ValueError as error:
        raise InvalidImage(
            f"Got {len(data)} bytes of an AVIF file that is not read: {error}. Send the file again "
            "whole, or as JPEG."
        ) from None
    check_pixel_count(*frames.largest, limits)
    if frames.pixels > _PICTURES_OF_AVIF * limits.max_image_pixels:
        raise ImageTooLarge(
            f"Got an AVIF file of {frames.pixels:,} pixels in all its pictures together, expected "
            f"at most {_PICTURES_OF_AVIF * limits.max_image_pixels:,}. Send it as JPEG."
        )


def _in_pillows_pixels(page: TiffPage) -> int:
    """How many of Pillow's largest pixels, of 4 bytes, one of a TIFF's takes."""
    return -(-page.bands * page.bits // 32)


def _is_by_hand(page: TiffPage, form: ImageForm) -> bool:
    # The bands of others are more than colours.
    return form.image_format in (BGR, RGB, GREY) and is_read_by_hand(page)


def _by_hand(data: bytes, page: TiffPage, limits: RequestLimits, form: ImageForm) -> Pixels:
    image = read_tiff(data, page, partial(open_image, limits=limits))
    method = _TRANSPOSE_FOR.get(page.one(ORIENTATION))
    return bands_of(image if method is None else image.transpose(method), form)


def _pixels(data: bytes, image: Image.Image, form: ImageForm) -> Pixels:
    method = _transposition(image)
    # Of a grey file it makes three channels, which are no bands of the file.
    fast = form.channels == COLOUR.channels and (form.image_format != BANDS or image.mode == RGB)
    decoded = decode_fast(data, image) if fast else None
    if decoded is not None:
        if method is None:
            return decoded
        image = Image.fromarray(decoded)
    if method is not None:
        image = image.transpose(method)
    image.load()  # before which a file of several pictures may say another mode
    if form.sixteen_bit == OPENCV:
        image = with_8_bits(image)
    return bands_of(image, form)


def _transposition(image: Image.Image) -> Image.Transpose | None:
    # As read_image: a broken EXIF block does not make the picture unreadable, and an orientation
    # that is text, bytes or no whole number is none.
    try:
        return _TRANSPOSE_FOR.get(image.getexif().get(_EXIF_ORIENTATION, 1))
    except Exception:
        return None
