"""The image of a request in each form in which it may come, and the one way from there to pixels.

An image says how large it is before it is unpacked, so that limits hold before memory is taken.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
import numpy.typing as npt

from d2serve.handlers.errors import ImageTooLarge, InvalidImage
from d2serve.handlers.requests.decoding import Decoded, check_pixel_count, read_file
from d2serve.handlers.requests.pixels import check_pixels
from d2serve.handlers.spec.image_form import COLOUR, ImageForm
from d2serve.handlers.spec.limits import RequestLimits

Pixels = npt.NDArray[np.uint8]

_DATA_URI = re.compile(r"\s*data:[\w.+/-]{0,80}(?:;[\w.+=-]{1,80}){0,4};base64,", re.IGNORECASE)
# From the alphabet for addresses and file names (RFC 4648, 5).
_USUAL = bytes.maketrans(b"-_", b"+/")


class SentImage(Protocol):
    """An image as it was sent, not unpacked yet."""

    @property
    def size(self) -> int:
        """Bytes that were sent for it, of the file or of the pixels."""

    @property
    def shape(self) -> tuple[int, int] | None:
        """(height, width) in pixels, of what says so itself; None of a file."""

    def load(self, form: ImageForm) -> bytes | Pixels:
        """The bytes of an image file, or pixels of the form that the model takes.

        Raises:
            RequestError: it is not what it says it is, or of another form.
        """


@dataclass(frozen=True)
class ImageFile:
    """The bytes of an image file."""

    data: bytes
    shape = None

    @property
    def size(self) -> int:
        return len(self.data)

    def load(self, _form: ImageForm) -> bytes:
        return self.data


@dataclass(frozen=True)
class Base64File:
    """An image file as text in base64: in lines or not, of either alphabet, padded or not, and
    with ``data:image/jpeg;base64,`` before it or not."""

    text: str
    shape = None

    @property
    def size(self) -> int:
        return len(self._letters) * 3 // 4

    def load(self, _form: ImageForm) -> bytes:
        letters = self._letters
        try:
            return base64.b64decode(letters + b"=" * (-len(letters) % 4), validate=True)
        except (binascii.Error, ValueError) as error:
            raise InvalidImage(
                f"Got an 'image' of {len(self.text)} characters that is no base64 ({error}). Send "
                "the bytes of an image file in base64, not its path or URL."
            ) from None

    @cached_property
    def _letters(self) -> bytes:
        """The text without what may stand around base64, and in its usual alphabet."""
        start = _DATA_URI.match(self.text)
        text = self.text[start.end() :] if start else self.text
        return text.encode("utf-8", "replace").translate(_USUAL, b"\t\r\n").strip(b" ").rstrip(b"=")


@dataclass(frozen=True, eq=False)
class PixelArray:
    """Pixels as a caller in the same process has them: nothing is sent."""

    pixels: npt.NDArray[np.generic]
    size = 0

    @property
    def shape(self) -> tuple[int, int] | None:
        return self.pixels.shape[:2] if self.pixels.ndim == 3 else None

    def load(self, form: ImageForm) -> Pixels:
        check_pixels(self.pixels, form)
        return self.pixels.astype(np.uint8, copy=False)


def read_pixels(image: SentImage, limits: RequestLimits, form: ImageForm = COLOUR) -> Decoded:
    """The (H, W, channels) pixels of an image, however it was sent; colours in RGB order.

    Args:
        image: as it was sent.
        limits: of bytes, pixels, frames and seconds.
        form: of the images that the model takes.

    Raises:
        ImageTooLarge: it has more bytes or pixels than the limits say.
        RequestError: it cannot be decoded.
    """
    if image.shape is not None:
        check_pixel_count(image.shape[1], image.shape[0], limits)
    if image.size > limits.max_image_bytes:
        raise ImageTooLarge(
            f"Got an image file of {image.size:,} bytes, expected at most "
            f"{limits.max_image_bytes:,}. Send it as JPEG, or scale it down: the model resizes it "
            "anyway."
        )
    loaded = image.load(form)
    if isinstance(loaded, bytes):
        return read_file(loaded, limits, form)
    return Decoded(loaded, None)
