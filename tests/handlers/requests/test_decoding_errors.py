"""Whatever else arrives is refused with a 4xx, quickly, and where detectron2 refuses it too."""

from __future__ import annotations

import base64
import io
import resource
import struct
import time
import zlib

import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from PIL import Image

from d2serve.handlers.errors import (
    EmptyRequest,
    ImageTooLarge,
    InvalidImage,
    RequestError,
    UnsupportedImageFormat,
)
from d2serve.handlers.requests.decoding import decode
from d2serve.handlers.requests.images import ImageFile, read_pixels
from d2serve.handlers.requests.opening import FORMATS
from d2serve.handlers.spec.limits import DEFAULT_LIMITS, RequestLimits
from tests.handlers.samples import cases, detectron2_reads, picture, saved

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")

FILES = {name: saved(picture(40, 30), name) for name in (*FORMATS, "MPO")}


def refused(data: bytes, limits: RequestLimits = DEFAULT_LIMITS) -> RequestError:
    with pytest.raises(RequestError) as caught:
        decode(data, limits)
    assert 400 <= caught.value.status < 500
    assert str(caught.value).isprintable()
    return caught.value


def png_header(width: int, height: int) -> bytes:
    content = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + content + struct.pack(">I", zlib.crc32(content))
    empty = b"IDAT" + zlib.compress(b"")
    data = struct.pack(">I", len(empty) - 4) + empty + struct.pack(">I", zlib.crc32(empty))
    return b"\x89PNG\r\n\x1a\n" + chunk + data


def announcing(file_format: str, width: int, height: int) -> bytes:
    """A small file whose header tells of another size."""
    data = bytearray(saved(picture(16, 16), file_format))
    if file_format == "PNG":
        return png_header(width, height)
    if file_format == "JPEG":
        start = data.index(b"\xff\xc0")
        data[start + 5 : start + 9] = struct.pack(">HH", height, width)
    elif file_format == "GIF":
        # The canvas grows with its first frame, so the frame's own size counts as well.
        frame = data.index(struct.pack("<BHHHH", 0x2C, 0, 0, 16, 16)) + 5
        data[6:10] = data[frame : frame + 4] = struct.pack("<HH", width, height)
    elif file_format == "BMP":
        data[18:26] = struct.pack("<ii", width, height)
    elif file_format == "TIFF":
        entries = struct.unpack_from("<H", data, struct.unpack_from("<I", data, 4)[0])[0]
        for i in range(entries):
            at = struct.unpack_from("<I", data, 4)[0] + 2 + 12 * i
            tag = struct.unpack_from("<H", data, at)[0]
            if tag in (256, 257):
                size = width if tag == 256 else height
                data[at : at + 12] = struct.pack("<HHII", tag, 4, 1, size)
    else:
        raise ValueError(file_format)
    return bytes(data)


class TestNoImage:
    def test_nothing(self) -> None:
        assert isinstance(refused(b""), EmptyRequest)

    @pytest.mark.parametrize(
        "data",
        [
            b"\0",
            b"hello, world",
            b"https://example.org/a.jpg",
            b'{"instances": []}',
            base64.b64encode(FILES["JPEG"]),
            b"data:image/png;base64," + base64.b64encode(FILES["PNG"]),
            saved(picture(8, 8), "PPM"),
            saved(picture(8, 8), "ICO"),
            b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
            b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        ],
    )
    def test_other_content_is_unsupported_and_told(self, data: bytes) -> None:
        error = refused(data)
        assert isinstance(error, UnsupportedImageFormat)
        assert f"{len(data)} bytes" in str(error)
        assert "JPEG" in str(error)

    @cases(200)
    @given(st.binary(min_size=1, max_size=200))
    def test_random_bytes(self, data: bytes) -> None:
        refused(data)

    @cases(200)
    @given(st.sampled_from(sorted(FILES)), st.integers(2, 40), st.binary(max_size=100))
    def test_random_bytes_after_a_true_start(self, name: str, kept: int, data: bytes) -> None:
        damaged = FILES[name][:kept] + data
        assume(_announces_few_pixels(damaged))
        _fares_as_with_detectron2(damaged)


class TestDamagedFiles:
    @pytest.mark.parametrize("name", sorted(FILES))
    def test_truncated_files_fare_as_with_detectron2(self, name: str) -> None:
        whole = FILES[name]
        failures = 0
        for length in sorted({*range(1, 64), *np.linspace(64, len(whole) - 1, 40, dtype=int)}):
            failures += not _fares_as_with_detectron2(whole[:length])
        assert failures >= 60

    @pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP", "MPO"])
    def test_half_a_file_is_invalid_and_called_truncated(self, name: str) -> None:
        error = refused(FILES[name][: len(FILES[name]) // 2])
        assert isinstance(error, InvalidImage)

    @cases(400)
    @given(
        st.sampled_from(sorted(FILES)),
        st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=6),
    )
    @example("TIFF", [(0.13671875, 16)])  # more entries than it has room for
    def test_flipped_bytes_fare_as_with_detectron2(
        self, name: str, changes: list[tuple[float, int]]
    ) -> None:
        data = bytearray(FILES[name])
        for place, value in changes:
            # Headers matter most, so places crowd at the start of the file.
            data[int(place**3 * (len(data) - 1))] = value
        assume(_announces_few_pixels(bytes(data)))
        _fares_as_with_detectron2(bytes(data))


def _announces_few_pixels(data: bytes) -> bool:
    """Many are slow to read, and not different."""
    try:
        with Image.open(io.BytesIO(data)) as opened:
            return opened.size[0] * opened.size[1] < 4_000_000
    except Exception:
        return True


def _fares_as_with_detectron2(data: bytes) -> bool:
    """Whether both read the file, after a look that they do the same."""
    try:
        expected = detectron2_reads(data)
        with Image.open(io.BytesIO(data)) as opened:
            served = opened.format in (*FORMATS, "MPO") and expected.size > 0
    except Exception:
        served = False
    if served:
        np.testing.assert_array_equal(decode(data), expected)
    else:
        refused(data)
    return served


class TestSizes:
    @pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
    @pytest.mark.parametrize("size", [(65535, 65535), (10_000, 9_000), (14_000, 12_000)])
    @pytest.mark.parametrize("file_format", ["JPEG", "PNG", "GIF", "BMP", "TIFF"])
    def test_a_huge_announced_size_costs_nothing(
        self, file_format: str, size: tuple[int, int]
    ) -> None:
        data = announcing(file_format, *size)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        start = time.perf_counter()
        error = refused(data)
        assert time.perf_counter() - start < 1
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak < 50_000
        assert isinstance(error, ImageTooLarge)
        assert error.status == 413
        assert "50,000,000 pixels" in str(error)

    def test_the_limit_itself_is_served(self) -> None:
        assert decode(FILES["PNG"], RequestLimits(max_image_pixels=1200)).shape == (30, 40, 3)
        error = refused(FILES["PNG"], RequestLimits(max_image_pixels=1199))
        assert isinstance(error, ImageTooLarge)

    def test_the_limit_of_bytes_itself_is_served(self) -> None:
        size = len(FILES["JPEG"])
        file = ImageFile(FILES["JPEG"])
        assert read_pixels(file, RequestLimits(max_image_bytes=size)).pixels.shape == (30, 40, 3)
        with pytest.raises(ImageTooLarge) as caught:
            read_pixels(file, RequestLimits(max_image_bytes=size - 1))
        assert f"{size:,} bytes, expected at most {size - 1:,}" in str(caught.value)

    @pytest.mark.parametrize("size", [(0, 0), (0, 9), (9, 0)])
    @pytest.mark.parametrize("file_format", ["JPEG", "PNG", "GIF", "BMP", "TIFF"])
    def test_no_pixels(self, file_format: str, size: tuple[int, int]) -> None:
        assert not isinstance(refused(announcing(file_format, *size)), ImageTooLarge)
