"""The image of a request in each form in which it may come, and the one way from there to pixels.

An image says how large it is before it is unpacked, so that limits hold before memory is taken.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from d2serve.handlers.errors import ImageTooLarge, InvalidImage
from d2serve.handlers.requests.decoding import check_pixel_count, decode
from d2serve.handlers.requests.pixels import check_pixels
from d2serve.handlers.spec.image_form import COLOUR, ImageForm
from d2serve.handlers.spec.limits import RequestLimits

Pixels = npt.NDArray[np.uint8]


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
    """An image file as text in base64, in lines or not."""

    text: str
    shape = None

    @property
    def size(self) -> int:
        characters = len(self.text) - self.text.count("\r") - self.text.count("\n")
        return characters // 4 * 3 - self.text[-4:].count("=")

    def load(self, _form: ImageForm) -> bytes:
        try:
            return base64.b64decode(self.text.replace("\r", "").replace("\n", ""), validate=True)
        except (binascii.Error, ValueError) as error:
            raise InvalidImage(
                f"Got an 'image' of {len(self.text)} characters that is no base64 ({error}). Send "
                "the bytes of an image file in base64, without 'data:', not its path or URL."
            ) from None


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


def read_pixels(image: SentImage, limits: RequestLimits, form: ImageForm = COLOUR) -> Pixels:
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
    return decode(loaded, limits, form) if isinstance(loaded, bytes) else loaded
