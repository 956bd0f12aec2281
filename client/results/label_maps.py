"""Masks and label maps, which travel packed, as run lengths and as PNG, and are wanted as arrays.

What can be seen without unpacking (base64, a PNG's kind and size) is checked when the reply is
read; the pixels are unpacked when they are asked for.
"""

from __future__ import annotations

import base64
import io
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as coco_mask

from d2serve.client.errors import MalformedReply
from d2serve.client.results.reply_fields import image_size, required, typed
from d2serve.handlers.outputs.rle import Rle

LabelMap = NDArray[np.int32]

MAX_LABEL = 65_535
"""What fits into the 16 bits of a PNG's grey."""

_PNG_START = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR"
_PNG_HEADER = struct.Struct(">IIBB")  # width, height, bits, kind of colour; PNG, section 11.2.2
_GREY = 0
_WHAT_FAILS_TO_DECODE = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    zlib.error,
    struct.error,
    Image.DecompressionBombError,
)


@dataclass(frozen=True)
class RunLengthMask:
    """A binary mask in COCO's compressed run-length encoding."""

    height: int
    width: int
    counts: str

    def decode(self) -> NDArray[np.bool_]:
        """The mask as a boolean array of shape (height, width)."""
        try:
            decoded = coco_mask.decode(self.rle())
        except (ValueError, TypeError, MemoryError) as error:
            raise MalformedReply(f"The mask's run lengths cannot be decoded: {error}") from error
        return np.asarray(decoded, dtype=np.bool_)

    def area(self) -> int:
        """Number of pixels in the mask, without decoding it."""
        return int(coco_mask.area(self.rle()))

    def rle(self) -> Rle:
        """As pycocotools takes it."""
        return {"size": [self.height, self.width], "counts": self.counts}


@dataclass(frozen=True)
class PngLabelMap:
    """One whole number for each pixel, as a grey PNG of 8 or 16 bits."""

    height: int
    width: int
    png: bytes = field(repr=False)

    def decode(self) -> LabelMap:
        """The labels as an array of shape (height, width)."""
        try:
            with Image.open(io.BytesIO(self.png), formats=["PNG"]) as image:
                labels = np.asarray(image).astype(np.int32)
        except _WHAT_FAILS_TO_DECODE as error:
            raise MalformedReply(
                f"The label map's PNG ({len(self.png)} bytes) cannot be decoded: {error}. Expected "
                f"a whole one of {self.width} x {self.height} pixels; was the reply cut off?"
            ) from error
        return labels


def parse_run_length_mask(value: Any, image: tuple[int, int]) -> RunLengthMask:
    """A mask of an image of this (height, width)."""
    height, width = image_size(value, image, "a segmentation")
    counts = required(value, "counts", str)
    if not counts.isascii():
        raise ValueError("'counts' is not COCO's compressed run-length encoding")
    return RunLengthMask(height=height, width=width, counts=counts)


def parse_png(text: Any, image: tuple[int, int]) -> PngLabelMap:
    """The base64 of a PNG of this (height, width)."""
    try:
        png = base64.b64decode(typed(text, str, "png"), validate=True)
    except ValueError as error:
        raise ValueError(f"'png' is not base64 ({error})") from error
    start, end = len(_PNG_START), len(_PNG_START) + _PNG_HEADER.size
    if not png.startswith(_PNG_START) or len(png) < end:
        raise ValueError(f"'png' is no PNG, it begins with {png[:8]!r}")
    width, height, bits, colour = _PNG_HEADER.unpack(png[start:end])
    # Of fewer bits Pillow would stretch the values, of colours it would mix them.
    if colour != _GREY or bits not in (8, 16):
        raise ValueError(
            f"'png' has {bits} bits and PNG's kind of colour {colour}, not 8 or 16 bits of grey (0)"
        )
    if (height, width) != image:
        raise ValueError(
            f"'png' has {width} x {height} pixels, not the image's {image[1]} x {image[0]}"
        )
    return PngLabelMap(height=height, width=width, png=png)


def require_areas(labels: LabelMap, said: Mapping[int, int], what: str) -> None:
    """Raise MalformedReply unless each label has as many pixels as is ``said`` of it."""
    counts = np.bincount(labels.ravel())
    found = {int(label): int(counts[label]) for label in np.flatnonzero(counts)}
    for label in sorted({*said, *found}):
        if said.get(label, 0) != found.get(label, 0):
            raise MalformedReply(
                f"The label map of {what} has {found.get(label, 0)} pixels of {label}, but the "
                f"reply lists {label} with an area of {said.get(label, 0)}: expected the same. The "
                "reply was changed on its way, or not made by d2serve."
            )
