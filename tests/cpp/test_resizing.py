"""examples/cpp resizes as Pillow does, and gives a program what the Python library gives it."""

from __future__ import annotations

import numpy as np
import pytest

from d2serve.handlers.requests.resizing import resized
from tests.cpp.probing import Pixels, Probe

_SIDES = (1, 2, 3, 5, 17, 64, 97, 131, 400)


def random_pixels(random: np.random.Generator, channels: int) -> Pixels:
    height, width = random.choice(_SIDES, 2)
    made = random.integers(0, 256, (height, width, channels), np.uint8)
    made[random.random((height, width)) < 0.3] = random.choice([0, 255])
    return made


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_every_size_to_every_other(channels: int, probe: Probe) -> None:
    random = np.random.default_rng(channels)
    wanted = [
        (random_pixels(random, channels), *map(int, random.choice(_SIDES, 2))) for _ in range(150)
    ]
    for (pixels, height, width), found in zip(wanted, probe.resized(wanted)):
        expected = resized(pixels, height, width)
        assert np.array_equal(found, expected), (pixels.shape, height, width)
