"""A picture that is the same for every side and is not downloaded.

It is drawn from a seed: clouds of noise at every scale, as in photographs, with coloured
shapes on top, so that JPEG decoding and the backbone have as much to do as on a real one.
"""

from __future__ import annotations

import io

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

_SHAPES = 40


def photo(height: int, width: int, seed: int) -> npt.NDArray[np.uint8]:
    """A drawn picture, (height, width, 3) uint8 in RGB order."""
    random = np.random.default_rng(seed)
    canvas = np.zeros((height, width, 3), np.float32)
    cell, weight = max(height, width), 60.0
    while cell >= 2:
        grid = random.normal(size=(height // cell + 2, width // cell + 2, 3)) * 32 + 128
        coarse = Image.fromarray(grid.clip(0, 255).astype(np.uint8))
        layer = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), np.float32)
        canvas += (layer - 128) / 32 * weight
        cell, weight = cell // 2, weight * 0.65
    picture = Image.fromarray((canvas + 128).clip(0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(picture)
    for index in range(_SHAPES):
        x, y = random.uniform(0, width), random.uniform(0, height)
        radius = random.uniform(0.02, 0.12) * min(height, width)
        red, green, blue = (int(value) for value in random.integers(0, 256, 3))
        if index % 2:
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), (red, green, blue))
        else:
            turn = float(random.uniform(0, 360))
            draw.regular_polygon((x, y, radius), 3 + index % 4, turn, (red, green, blue))
    return np.asarray(picture)


def jpeg(pixels: npt.NDArray[np.uint8]) -> bytes:
    """A JPEG file of an RGB picture, at the quality that cameras write."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=92)
    return file.getvalue()
