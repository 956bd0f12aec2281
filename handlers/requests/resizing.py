"""Resizes pixels of any number of channels as detectron2's ``ResizeTransform`` does.

detectron2 hands arrays of bytes to Pillow, which knows up to four channels; the second of two and
the fourth of four it takes for transparency, by which it weighs the others. Arrays of more channels
detectron2 can only resize as floats, by torch's ``interpolate``. Both are what such a model was
trained with.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from d2serve.handlers.spec.image_form import MOST_OF_PILLOW

Float32 = npt.NDArray[np.float32]


def resized(pixels: npt.NDArray[np.uint8], height: int, width: int) -> npt.NDArray[Any]:
    """The pixels at another size, by bilinear interpolation.

    Args:
        pixels: (H, W, channels) uint8.
        height, width: wanted, each at least 1.

    Returns:
        (height, width, channels), uint8 of up to four channels and float32 of more.
    """
    channels = pixels.shape[2]
    if (height, width) == pixels.shape[:2]:
        return pixels
    if channels > MOST_OF_PILLOW:
        return _interpolated(pixels, height, width)
    image = Image.fromarray(pixels[:, :, 0] if channels == 1 else pixels)
    made = np.asarray(image.resize((width, height), Image.Resampling.BILINEAR))
    return made[:, :, None] if channels == 1 else made


def _interpolated(pixels: npt.NDArray[np.uint8], height: int, width: int) -> Float32:
    """As ``torch.nn.functional.interpolate(mode="bilinear", align_corners=False)``.

    Equal to the last digits of float32, which depend on torch's kernel (5e-5 of 255 were seen).
    """
    above, below, down = _places(pixels.shape[0], height)
    before, after, along = _places(pixels.shape[1], width)
    down, along = down[:, None, None], along[None, :, None]
    one = np.float32(1)
    rows = pixels[above].astype(np.float32), pixels[below].astype(np.float32)
    upper, lower = ((one - along) * row[:, before] + along * row[:, after] for row in rows)
    made: Float32 = (one - down) * upper + down * lower
    return made


def _places(size: int, wanted: int) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp], Float32]:
    """For each place of a side, its two neighbours in the source and how far it is to the second.

    torch's compiler fuses the product and the difference into one operation that rounds once.
    """
    scale = float(np.float32(size) / np.float32(wanted))
    exact = np.float32(scale * (np.arange(wanted) + 0.5) - 0.5).clip(0)
    first = np.minimum(exact.astype(np.intp), size - 1)
    second = np.minimum(first + 1, size - 1)
    return first, second, np.minimum(exact - first.astype(np.float32), np.float32(1))
