"""Any photo is a sample: what is made of it fits an archive's own limits, and is soon compared."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from d2serve.export.errors import SampleError
from d2serve.export.reading.image_files import servable, write_image_file
from d2serve.export.reading.samples import (
    builtin_sample,
    load_sample,
    most_sample_pixels,
    sized_variants,
)
from d2serve.handlers.requests.decoding import decode
from d2serve.handlers.spec.limits import DEFAULT_LIMITS


def saved(folder: Path, image: Image.Image, name: str, **options: object) -> Path:
    file = folder / name
    image.save(file, **options)  # type: ignore[arg-type]
    return file


def noise(width: int, height: int) -> Image.Image:
    """What no compression makes smaller."""
    values = np.random.default_rng(3).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(values)


def test_every_variant_of_a_large_photo_is_answered_and_none_is_enlarged(tmp_path: Path) -> None:
    file = saved(tmp_path, noise(4032, 3024), "phone.jpg", quality=30)
    sample = load_sample(file)
    assert sample.shape[0] * sample.shape[1] > 10_000_000
    data = write_image_file(sample, tmp_path / "sample").read_bytes()
    assert len(data) <= DEFAULT_LIMITS.max_image_bytes
    assert (decode(data) == sample).all()
    for name, image in sized_variants(sample).items():
        # Even without any compression.
        assert name == "sample" or image.size < 0.5 * DEFAULT_LIMITS.max_image_bytes


@pytest.mark.parametrize("size", [(9000, 6000), (16000, 1200), (1100, 16000)])
def test_what_is_beyond_every_limit_is_made_smaller(size: tuple[int, int], tmp_path: Path) -> None:
    file = saved(tmp_path, Image.new("RGB", size, (90, 120, 60)), "aerial.png", compress_level=1)
    height, width = load_sample(file).shape[:2]
    assert height * width <= 12_500_000
    assert width / height == pytest.approx(size[0] / size[1], rel=0.01)


def test_a_model_that_takes_images_as_they_are_gets_a_smaller_sample(tmp_path: Path) -> None:
    file = saved(tmp_path, Image.new("RGB", (3000, 2000)), "street.png")
    assert most_sample_pixels(800) > most_sample_pixels(0)
    height, width = load_sample(file, most_pixels=most_sample_pixels(0)).shape[:2]
    assert 2_000_000 < height * width <= 2_100_000


@pytest.mark.parametrize("size", [(8, 8), (1, 1), (5000, 12), (3, 900)])
def test_variants_of_the_smallest_and_of_strips(size: tuple[int, int], tmp_path: Path) -> None:
    sample = load_sample(saved(tmp_path, noise(*size), "strip.png"))
    for image in sized_variants(sample).values():
        height, width = image.shape[:2]
        assert min(height, width) >= 1
    for name in ("panorama", "tower", "squeezed", "half"):
        height, width = sized_variants(sample)[name].shape[:2]
        assert max(height, width) <= 32 * min(height, width)


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA", "CMYK", "1"])
def test_photos_of_other_modes(mode: str, tmp_path: Path) -> None:
    name = "photo.jpg" if mode == "CMYK" else "photo.png"
    file = saved(tmp_path, noise(64, 48).convert(mode), name)
    assert load_sample(file).shape == (48, 64, 3)


def test_a_photo_that_lies_on_its_side_is_turned(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    file = saved(tmp_path, noise(64, 48), "turned.jpg", exif=exif)
    assert load_sample(file).shape == (64, 48, 3)


@pytest.mark.parametrize("content", [b"", b"no image", None])
def test_what_is_no_image_is_named(content: bytes | None, tmp_path: Path) -> None:
    file = tmp_path / "x.jpg"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(SampleError, match=r"--sample-image .*x\.jpg cannot be read"):
        load_sample(file)


def test_the_built_in_sample_is_what_it_was() -> None:
    sizes = {name: image.shape[:2] for name, image in sized_variants(builtin_sample()).items()}
    assert sizes["sample"] == (480, 640)
    assert sizes["larger"] == (624, 832)
    assert sizes["panorama"] == (480, 1280)


def test_what_fits_is_left_as_it_is() -> None:
    sample = builtin_sample()
    assert servable(sample) is sample
