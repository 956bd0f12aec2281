"""Opens an image file with Pillow, which reads its header and decodes nothing yet.

What it takes for no image, or for too large a one, is the client's 4xx.
"""

from __future__ import annotations

import io
import time

from PIL import Image, UnidentifiedImageError, features

from d2serve.handlers.errors import ImageTooLarge, ImageTooSlow, InvalidImage, RequestError
from d2serve.handlers.requests.formats.refusals import why_not_read
from d2serve.handlers.spec.limits import RequestLimits

# JPEG includes MPO, what phones write into .jpg files with a second picture.
FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "TIFF", "GIF") + ("AVIF",) * bool(features.check("avif"))


class OutOfTime(Exception):
    """Reading a file was given up."""


class _Timed(io.BytesIO):
    """A file that cannot be read any more after a deadline: Pillow reads as it goes."""

    def __init__(self, data: bytes, seconds: float) -> None:
        super().__init__(data)
        self._deadline = time.monotonic() + seconds

    def read(self, size: int | None = -1) -> bytes:
        if time.monotonic() > self._deadline:
            raise OutOfTime
        return super().read(size)


def open_image(data: bytes, limits: RequestLimits) -> Image.Image:
    """An image file as Pillow opens it, which can be read for ``max_decode_seconds``.

    Raises:
        RequestError: it is of no served format, damaged, or too large for Pillow.
    """
    try:
        return Image.open(_Timed(data, limits.max_decode_seconds), formats=FORMATS)
    except OutOfTime:
        raise timeout_error(limits) from None
    except UnidentifiedImageError:
        raise why_not_read(data, FORMATS) from None
    except Image.DecompressionBombError as error:
        raise ImageTooLarge(
            f"{one_line(error)} Expected at most {limits.max_image_pixels:,} pixels: "
            "scale the image down."
        ) from None
    except Exception as error:
        raise InvalidImage(
            f"Got {len(data)} bytes with a damaged image header ({one_line(error)}). "
            "Send the file again whole."
        ) from None


def timeout_error(limits: RequestLimits) -> RequestError:
    """The error for an image that takes too long to decode."""
    return ImageTooSlow(
        f"Got an image that was not decoded within {limits.max_decode_seconds:g} s. "
        "Scale it down, or save it again as PNG or baseline JPEG."
    )


def one_line(error: BaseException) -> str:
    """What an exception says, shortened to one line."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text[:200]
