"""examples/cpp resizes as Pillow does, and gives a program what the Python library gives it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from d2serve.handlers.requests.decoding import decode
from d2serve.handlers.requests.preprocessing import preprocess, resized_shape
from d2serve.handlers.requests.resizing import resized
from d2serve.handlers.spec.image_form import BANDS, BGR, GREY, RGB, RGBA
from tests.cpp.models import folder_of
from tests.cpp.probing import Pixels, Probe
from tests.handlers.samples import spec_with

_SIDES = (1, 2, 3, 5, 17, 64, 97, 131, 400)


def random_pixels(random: np.random.Generator, channels: int) -> Pixels:
    height, width = random.choice(_SIDES, 2)
    made = random.integers(0, 256, (height, width, channels), np.uint8)
    made[random.random((height, width)) < 0.3] = random.choice([0, 255])
    return made


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_every_size_to_every_other(channels: int, probe: Probe) -> None:
    random = np.random.default_rng(channels)
    wanted: list[tuple[Pixels, int, int]] = []
    for _ in range(150):
        height, width = map(int, random.choice(_SIDES, 2))
        wanted.append((random_pixels(random, channels), height, width))
    for (pixels, height, width), found in zip(wanted, probe.resized(wanted)):
        expected = resized(pixels, height, width)
        assert np.array_equal(found, expected), (pixels.shape, height, width)


def extremes() -> list[tuple[int, int]]:
    """(height, width) of images whose resized sides are rounded, cut off or down to one pixel."""
    random = np.random.default_rng(1)
    return [(1, 1), (1, 700), (700, 1), (480, 640), (333, 500), *random.integers(1, 300, (25, 2))]


FORMATS = ((BGR, 3), (RGB, 3), (GREY, 1), (RGBA, 4), (BANDS, 2))


@pytest.mark.parametrize(("image_format", "channels"), FORMATS)
@pytest.mark.parametrize(("short", "long"), [(0, 1), (100, 133), (64, 65), (7, 1000)])
def test_what_a_program_gets(
    image_format: str, channels: int, short: int, long: int, probe: Probe, tmp_path: Path
) -> None:
    spec = spec_with(
        image_format=image_format,
        channels=channels,
        min_size_test=short,
        max_size_test=long,
    )
    model = folder_of(spec, tmp_path / "model")
    random = np.random.default_rng(short)
    files = []
    for index, (height, width) in enumerate(extremes()):
        pixels = random.integers(0, 256, (height, width, channels), np.uint8)
        files.append(tmp_path / f"{index}.png")
        Image.fromarray(pixels[:, :, 0] if channels == 1 else pixels).save(files[-1])
    for file, (tensor, sent) in zip(files, probe.inputs(model, files)):
        expected = preprocess(decode(file.read_bytes(), form=spec.image_form), spec)
        assert sent == (expected.height, expected.width)
        assert tensor.shape[1:] == resized_shape(*sent, short, long)
        assert np.array_equal(tensor, expected.tensor)
