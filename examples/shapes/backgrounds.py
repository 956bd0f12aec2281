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

from examples.shapes.schema import STUFF_NAMES

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
# Reddish, greenish, bluish, each far paler than a shape.
_STUFF_TINTS = ((1.15, 0.95, 0.85), (0.9, 1.12, 0.8), (0.9, 0.97, 1.15))


@cache
def _photograph(name: str) -> Image.Image:
    return Image.fromarray(getattr(skimage.data, name)()).convert("RGB")


def random_background(rng: np.random.Generator, height: int, width: int) -> NDArray[np.float32]:
    """A random crop of a random photograph as (height, width, 3) RGB in 0 to 255.

    It is flipped, brightened or darkened, changed in contrast and tinted at random.
    """
    name = PHOTOGRAPHS[rng.integers(len(PHOTOGRAPHS))]
    pixels = _random_crop(rng, name, height, width)
    contrast = rng.uniform(0.4, 0.9)
    brightness = rng.uniform(-30.0, 40.0)
    tint = rng.uniform(0.85, 1.15, size=3).astype(np.float32)
    return _changed(pixels, contrast, brightness, tint)


def stuff_background(
    rng: np.random.Generator, height: int, width: int
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """A background of two or three regions of different stuff, and each pixel's label.

    Labels count ``STUFF_NAMES`` from 1. The regions meet in waves, and each kind of stuff has a
    tint of its own, since all three photographs are grey.
    """
    kinds = rng.permutation(len(STUFF_NAMES))
    regions = np.zeros((height, width), dtype=np.int64)
    regions[_beyond_a_wave(rng, height, width)] = 1
    if rng.random() < 0.5:
        regions[_beyond_a_wave(rng, height, width)] = 2
    labels: NDArray[np.uint8] = (kinds[regions] + 1).astype(np.uint8)
    background = np.zeros((height, width, 3), dtype=np.float32)
    for kind, name in enumerate(STUFF_NAMES):
        pixels = _random_crop(rng, name, height, width)
        tint = np.array(_STUFF_TINTS[kind]) * rng.uniform(0.95, 1.05, size=3)
        contrast, brightness = rng.uniform(0.6, 0.9), rng.uniform(-20.0, 20.0)
        here = labels == kind + 1
        background[here] = _changed(pixels, contrast, brightness, tint.astype(np.float32))[here]
    return background, labels


def _beyond_a_wave(rng: np.random.Generator, height: int, width: int) -> NDArray[np.bool_]:
    """The pixels on one side of a wave that passes near the middle, in any direction."""
    side = min(height, width)
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    angle = rng.uniform(0.0, 2.0 * np.pi)
    along = (x - width / 2) * np.cos(angle) + (y - height / 2) * np.sin(angle)
    across = (y - height / 2) * np.cos(angle) - (x - width / 2) * np.sin(angle)
    wave = np.sin(across / side * rng.uniform(2.0, 8.0) + rng.uniform(0.0, 2.0 * np.pi))
    beyond: NDArray[np.bool_] = along > side * (
        rng.uniform(-0.25, 0.25) + rng.uniform(0.0, 0.08) * wave
    )
    return beyond


def _random_crop(
    rng: np.random.Generator, name: str, height: int, width: int
) -> NDArray[np.float32]:
    photograph = _photograph(name)
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
    return np.asarray(crop, dtype=np.float32)


def _changed(
    pixels: NDArray[np.float32], contrast: float, brightness: float, tint: NDArray[np.float32]
) -> NDArray[np.float32]:
    changed = ((pixels - 127.5) * contrast + 127.5 + brightness) * tint
    background: NDArray[np.float32] = np.clip(changed, 0.0, 255.0).astype(np.float32)
    return background
