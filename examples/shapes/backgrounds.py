"""Photographs to draw on: plain backgrounds would make the detectors' task unlike real use.

The photographs come with the scikit-image wheel and are read from the installed package, so
nothing of them is stored here and nothing is downloaded. Each is CC0 or in the public domain;
README.md names their origins.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import skimage.data
from numpy.typing import NDArray
from PIL import Image

PHOTOGRAPHS = (
    "astronaut",
    "brick",
    "camera",
    "chelsea",
    "coffee",
    "grass",
    "gravel",
    "hubble_deep_field",
    "rocket",
)


@cache
def _photograph(name: str) -> Image.Image:
    return Image.fromarray(getattr(skimage.data, name)()).convert("RGB")


def random_background(rng: np.random.Generator, height: int, width: int) -> NDArray[np.float32]:
    """A random crop of a random photograph as (height, width, 3) RGB in 0 to 255.

    It is flipped, brightened or darkened, changed in contrast and tinted at random.
    """
    photograph = _photograph(PHOTOGRAPHS[rng.integers(len(PHOTOGRAPHS))])
    largest = min(photograph.width / width, photograph.height / height)
    scale = largest * rng.uniform(0.4, 1.0)
    crop_width, crop_height = width * scale, height * scale
    left = rng.uniform(0.0, photograph.width - crop_width)
    top = rng.uniform(0.0, photograph.height - crop_height)
    box = (left, top, left + crop_width, top + crop_height)
    crop = photograph.resize((width, height), Image.Resampling.BILINEAR, box=box)
    if rng.random() < 0.5:
        crop = crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if rng.random() < 0.25:
        crop = crop.transpose(Image.Transpose.FLIP_TOP_BOTTOM)
    pixels = np.asarray(crop, dtype=np.float32)
    contrast = rng.uniform(0.4, 0.9)
    brightness = rng.uniform(-30.0, 40.0)
    tint = rng.uniform(0.85, 1.15, size=3).astype(np.float32)
    changed = ((pixels - 127.5) * contrast + 127.5 + brightness) * tint
    background: NDArray[np.float32] = np.clip(changed, 0.0, 255.0).astype(np.float32)
    return background
