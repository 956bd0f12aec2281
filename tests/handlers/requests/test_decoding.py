"""Every file that detectron2 reads becomes the same pixels here."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import pytest
from PIL import Image

from d2serve.handlers.requests.decoding import decode
from d2serve.handlers.requests.opening import FORMATS
from tests.handlers.files import png
from tests.handlers.samples import detectron2_reads, picture, saved

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")

SIZES = [(1, 1), (7, 5), (16, 16), (33, 17), (2, 61)]


def assert_as_detectron2(data: bytes) -> None:
    expected = detectron2_reads(data)
    decoded = decode(data)
    assert decoded.dtype == np.uint8
    np.testing.assert_array_equal(decoded, expected)


@pytest.mark.parametrize(("width", "height"), SIZES)
@pytest.mark.parametrize(
    ("mode", "options"),
    [
        ("RGB", {"subsampling": 0}),
        ("RGB", {"subsampling": 1}),
        ("RGB", {"subsampling": 2}),
        ("RGB", {"subsampling": 2, "progressive": True}),
        ("RGB", {"quality": 5, "restart_marker_rows": 1}),
        ("L", {}),
        ("L", {"progressive": True}),
        ("CMYK", {}),
        ("YCbCr", {"quality": 100}),
    ],
)
def test_jpeg(mode: str, options: dict[str, Any], width: int, height: int) -> None:
    assert_as_detectron2(saved(picture(width, height, mode), "JPEG", **options))


@pytest.mark.parametrize(("width", "height"), SIZES)
@pytest.mark.parametrize(
    ("mode", "options"),
    [
        ("RGB", {}),
        ("RGB", {"transparency": (10, 20, 30)}),
        ("RGBA", {}),
        ("L", {}),
        ("L", {"transparency": 7}),
        ("LA", {}),
        ("P", {}),
        ("P", {"transparency": 0}),
        ("P", {"transparency": bytes(range(0, 250, 10))}),
        ("P", {"bits": 2}),
        ("1", {}),
    ],
)
def test_png(mode: str, options: dict[str, Any], width: int, height: int) -> None:
    assert_as_detectron2(saved(picture(width, height, mode), "PNG", **options))


@pytest.mark.parametrize(("depth", "row"), [(1, b"\xa0"), (2, b"\x1b\x40"), (4, b"\x12\x34\x56")])
def test_grey_png_with_less_than_8_bits(depth: int, row: bytes) -> None:
    assert_as_detectron2(png(5, 4, depth, 0, (b"\0" + row) * 4))


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P", "1"])
def test_bmp(mode: str) -> None:
    assert_as_detectron2(saved(picture(13, 9, mode), "BMP"))


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
@pytest.mark.parametrize("options", [{"quality": 30}, {"lossless": True}])
def test_webp(mode: str, options: dict[str, Any]) -> None:
    assert_as_detectron2(saved(picture(31, 22, mode), "WEBP", **options))


@pytest.mark.parametrize(
    ("mode", "compression"),
    [
        (mode, compression)
        for mode in ("RGB", "RGBA", "L", "LA", "P", "CMYK", "LAB")
        for compression in ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits")
    ]
    + [("RGB", "jpeg"), ("L", "jpeg"), ("1", "raw"), ("1", "group3"), ("1", "group4")],
)
def test_tiff(mode: str, compression: str) -> None:
    source = picture(21, 14, "RGB") if mode == "LAB" else picture(21, 14, mode)
    if mode == "LAB":
        source = Image.frombytes("LAB", source.size, source.tobytes())
    assert_as_detectron2(saved(source, "TIFF", compression=compression))


@pytest.mark.skipif("AVIF" not in FORMATS, reason="a Pillow without AVIF")
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L"])
@pytest.mark.parametrize("quality", [30, 100])
def test_avif(mode: str, quality: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    assert_as_detectron2(saved(picture(31, 22, mode), "AVIF", quality=quality))
    assert_as_detectron2(saved(picture(31, 22, mode), "AVIF", quality=quality, exif=exif))


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "1"])
def test_gif(mode: str) -> None:
    assert_as_detectron2(saved(picture(15, 11, mode), "GIF"))


@pytest.mark.parametrize("file_format", ["GIF", "WEBP", "TIFF", "MPO", "PNG"])
def test_of_several_pictures_the_first_counts(file_format: str) -> None:
    first, second = picture(12, 10, seed=1), picture(12, 10, seed=2)
    data = saved(first, file_format, save_all=True, append_images=[second])
    assert_as_detectron2(data)
    off = np.abs(decode(data).astype(int) - np.asarray(first)).mean()
    assert off < np.abs(decode(data).astype(int) - np.asarray(second)).mean()


def test_gif_with_transparency_and_frames_smaller_than_the_canvas() -> None:
    frames = [picture(12, 10, "P", seed=seed) for seed in (1, 2, 3)]
    assert_as_detectron2(
        saved(frames[0], "GIF", save_all=True, append_images=frames[1:], transparency=0, disposal=2)
    )


@pytest.mark.parametrize("orientation", range(10))
@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "TIFF", "MPO"])
def test_exif_orientation(file_format: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    assert_as_detectron2(saved(picture(8, 5), file_format, exif=exif))


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_exif_orientation_of_other_modes(mode: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = saved(picture(8, 5, mode), "JPEG", exif=exif)
    assert_as_detectron2(data)
    assert decode(data).shape == (8, 5, 3)


def orientation_entry(kind: int, count: int, value: bytes) -> bytes:
    """An EXIF block whose one entry is an orientation of any TIFF type."""
    header = b"Exif\0\0II*\0" + struct.pack("<IH", 8, 1)
    inline = len(value) <= 4
    field = value.ljust(4, b"\0") if inline else struct.pack("<I", 26)
    tail = b"" if inline else value
    return header + struct.pack("<HHI", 0x0112, kind, count) + field + bytes(4) + tail


@pytest.mark.parametrize(
    "exif",
    [
        pytest.param(orientation_entry(4, 1, struct.pack("<I", 6)), id="long"),
        pytest.param(orientation_entry(5, 1, struct.pack("<II", 6, 1)), id="rational"),
        pytest.param(orientation_entry(5, 1, struct.pack("<II", 13, 2)), id="rational between"),
        pytest.param(orientation_entry(5, 1, struct.pack("<II", 6, 0)), id="rational over zero"),
        pytest.param(orientation_entry(11, 1, struct.pack("<f", 6)), id="float"),
        pytest.param(orientation_entry(11, 1, struct.pack("<f", 6.5)), id="float between"),
        pytest.param(orientation_entry(11, 1, struct.pack("<f", float("nan"))), id="nan"),
        pytest.param(orientation_entry(2, 2, b"6\0"), id="text"),
        pytest.param(orientation_entry(1, 1, b"\x06"), id="byte"),
        pytest.param(orientation_entry(1, 1, b"6"), id="byte that is a digit"),
        pytest.param(orientation_entry(3, 2, struct.pack("<HH", 6, 6)), id="two values"),
        pytest.param(orientation_entry(3, 0, b""), id="no value"),
        pytest.param(orientation_entry(99, 1, b"\x06"), id="unknown type"),
        pytest.param(b"Exif\0\0II*\0", id="cut after the header"),
        pytest.param(b"Exif\0\0" + b"\xff" * 40, id="garbage"),
        pytest.param(b"Exif\0\0", id="empty"),
    ],
)
@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP"])
def test_unusual_and_broken_exif(file_format: str, exif: bytes) -> None:
    assert_as_detectron2(saved(picture(8, 5), file_format, exif=exif))
