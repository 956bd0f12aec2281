"""Where the fast JPEG decoder is used, it gives Pillow's pixels; anything else is Pillow's."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import simplejpeg
from hypothesis import assume, given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from d2serve.handlers.requests import jpeg
from d2serve.handlers.requests.decoding import decode
from d2serve.handlers.requests.jpeg import decode_fast
from tests.handlers.samples import cases, detectron2_reads, picture, saved

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")

Pixels = NDArray[np.uint8]


@pytest.fixture(autouse=True)
def _forget_what_was_found_equal() -> Iterator[None]:
    jpeg._same_here.cache_clear()
    yield
    jpeg._same_here.cache_clear()


def fast(data: bytes) -> Pixels | None:
    with Image.open(io.BytesIO(data)) as image:
        return decode_fast(data, image)


def by_pillow(data: bytes) -> Pixels:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB"))


def assert_fast_and_equal(data: bytes) -> None:
    decoded = fast(data)
    assert decoded is not None
    np.testing.assert_array_equal(decoded, by_pillow(data))


@st.composite
def common_jpegs(draw: st.DrawFn, edges: st.SearchStrategy[int] | None = None) -> bytes:
    """Of every kind that the fast decoder takes."""
    if edges is None:
        edges = st.one_of(st.integers(1, 40), st.integers(1, 200))
    mode = draw(st.sampled_from(["RGB", "RGB", "RGB", "L"]))
    image = picture(draw(edges), draw(edges), mode, seed=draw(st.integers(0, 9)))
    if draw(st.booleans()):  # smooth, where coefficients are zero
        image = image.resize((8, 8)).resize(image.size, Image.Resampling.BICUBIC)
    options: dict[str, Any] = {
        "quality": draw(st.one_of(st.integers(1, 100), st.sampled_from([75, 90, 95]))),
        "progressive": draw(st.booleans()),
        "optimize": draw(st.booleans()),
        "restart_marker_rows": draw(st.sampled_from([0, 0, 1, 2])),
    }
    if mode == "RGB":
        options["subsampling"] = draw(st.sampled_from(["4:4:4", "4:2:2", "4:2:0"]))
        options["keep_rgb"] = draw(st.sampled_from([False, False, True]))
        if options["keep_rgb"]:
            del options["subsampling"]
    try:
        return saved(image, "JPEG", **options)
    except OSError:  # Pillow's buffer for a tiny picture of high quality is too small
        assume(False)
        raise


@cases(400)
@given(common_jpegs())
def test_the_common_kinds(data: bytes) -> None:
    assert_fast_and_equal(data)


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0"])
@pytest.mark.parametrize("size", [(1920, 1080), (1439, 1079)])
def test_large_pictures(size: tuple[int, int], subsampling: str, progressive: bool) -> None:
    image = picture(*size)
    assert_fast_and_equal(
        saved(image, "JPEG", quality=60, subsampling=subsampling, progressive=progressive)
    )


@pytest.mark.parametrize("sampling", ["440", "411"])
def test_rare_samplings_are_pillows(sampling: str) -> None:
    pixels = np.ascontiguousarray(picture(50, 37))
    data = simplejpeg.encode_jpeg(pixels, 90, colorsubsampling=sampling)
    assert fast(data) is None
    np.testing.assert_array_equal(decode(data), detectron2_reads(data))


def test_cmyk_is_pillows() -> None:
    """It would come out otherwise by 1 here and there."""
    data = saved(picture(50, 37, "CMYK"), "JPEG")
    assert fast(data) is None
    assert (simplejpeg.decode_jpeg(data, "RGB") != by_pillow(data)).any()


@pytest.mark.parametrize("file_format", ["PNG", "WEBP", "TIFF"])
def test_other_formats_are_pillows(file_format: str) -> None:
    assert fast(saved(picture(20, 10), file_format)) is None


def test_of_an_mpo_the_first_picture() -> None:
    first, second = picture(40, 30, seed=1), picture(40, 30, seed=2)
    assert_fast_and_equal(saved(first, "MPO", save_all=True, append_images=[second]))


@cases(600)
@given(
    common_jpegs(st.integers(1, 48)),
    st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=4),
    st.one_of(st.none(), st.floats(0, 1)),
)
def test_damaged_files(data: bytes, changes: list[tuple[float, int]], cut: float | None) -> None:
    """Either the fast decoder leaves them to Pillow, or Pillow reads the same pixels."""
    damaged = bytearray(data)
    for place, value in changes:
        damaged[int(place * (len(damaged) - 1))] = value
    if cut is not None:
        del damaged[int(cut * len(damaged)) :]
    try:
        with Image.open(io.BytesIO(damaged)) as image:
            assume(image.size[0] * image.size[1] < 1_000_000)
            decoded = decode_fast(bytes(damaged), image)
    except OSError:
        return
    if decoded is not None:
        np.testing.assert_array_equal(decoded, by_pillow(bytes(damaged)))


def test_a_decoder_that_gives_other_pixels_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    def cruder(data: bytes, colorspace: str, strict: bool) -> Pixels:
        pixels: Pixels = simplejpeg.decode_jpeg(data, colorspace, fastupsample=True, strict=strict)
        return pixels

    monkeypatch.setattr(jpeg, "decode_jpeg", cruder)
    whole, halved = (saved(picture(40, 30), "JPEG", subsampling=each) for each in (0, 2))
    assert fast(halved) is None
    np.testing.assert_array_equal(decode(halved), detectron2_reads(halved))
    assert_fast_and_equal(whole)  # it differs in the upsampling only


def test_a_kind_that_pillow_cannot_write_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    data = saved(picture(40, 30), "JPEG")

    def fails(*_: Any, **__: Any) -> None:
        raise OSError("encoder error")

    monkeypatch.setattr(Image.Image, "save", fails)
    assert fast(data) is None


def test_without_simplejpeg_pillow_decodes(monkeypatch: pytest.MonkeyPatch) -> None:
    data = saved(picture(40, 30), "JPEG")
    monkeypatch.setattr(jpeg, "decode_jpeg", None)
    assert fast(data) is None
    np.testing.assert_array_equal(decode(data), detectron2_reads(data))


def test_the_library_loads_where_simplejpeg_does_not() -> None:
    program = (
        "import sys; sys.modules['simplejpeg'] = None\n"
        "from d2serve.handlers.requests import decoding, jpeg; print(jpeg.decode_jpeg)"
    )
    paths = os.pathsep.join(each for each in sys.path if each)
    told = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert told.stdout.strip() == "None"
