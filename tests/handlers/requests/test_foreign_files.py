"""What is not served is named, with what to do; what is damaged is told so."""

from __future__ import annotations

import base64
import gzip
import io
import struct
import tarfile
import zipfile
from typing import Any

import numpy as np
import pytest
from PIL import Image, features

from d2serve.handlers.errors import ImageTooLarge, InvalidImage, RequestError
from d2serve.handlers.requests import opening
from d2serve.handlers.requests.decoding import decode
from d2serve.handlers.requests.formats.avif import frames_of
from d2serve.handlers.requests.formats.foreign import FOREIGN
from d2serve.handlers.spec.limits import RequestLimits
from tests.handlers.files import huge_avif, png, tiff_of
from tests.handlers.samples import picture, saved

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")

HAS_AVIF = features.check("avif")
EIGHT = np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)


def box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">L4s", len(content) + 8, kind) + content


def packed(file: Any) -> bytes:
    return bytes(file.getvalue())


def zipped() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a.jpg", b"")
    return packed(file)


def tarred() -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("a.jpg"))
    return packed(file)


def array() -> bytes:
    file = io.BytesIO()
    np.save(file, EIGHT)
    return packed(file)


FILES = {
    "HEIC": box(b"ftyp", b"heic\0\0\0\0mif1heic") + bytes(64),
    "HEIF": box(b"ftyp", b"mif1\0\0\0\0mif1heic") + bytes(64),
    "JPEG 2000": saved(picture(9, 7), "JPEG2000"),
    "JPEG XL": b"\xff\x0a\xfa\x7f\x01",
    "DICOM": bytes(128) + b"DICM\2\0\0\0",
    "CR3": box(b"ftyp", b"crx \0\0\0\1crx isom"),
    "RAF": b"FUJIFILMCCD-RAW 0201FF383501",
    "ORF": b"IIRO\x08\0\0\0" + bytes(64),
    "RW2": b"IIU\0\x18\0\0\0" + bytes(64),
    "PDF": b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n",
    "SVG": b'<?xml version="1.0"?>\n<!-- made by hand -->\n<svg width="9" height="9"/>',
    "MP4": box(b"ftyp", b"isom\0\0\2\0isomiso2avc1mp41"),
    "MOV": box(b"ftyp", b"qt  \0\0\2\0qt  "),
    "AVI": b"RIFF\x10\0\0\0AVI LIST",
    "WebM": b"\x1a\x45\xdf\xa3\x9f\x42\x86\x81\x01",
    "gzip": gzip.compress(b"image"),
    "ZIP": zipped(),
    "tar": tarred(),
    "NumPy": array(),
    "Photoshop": b"8BPS\0\1" + bytes(20),
    "OpenEXR": b"\x76\x2f\x31\x01\x02\0\0\0",
    "Radiance": b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n",
    "FITS": b"SIMPLE  =                    T",
    "NIfTI": struct.pack("<L", 348) + bytes(340) + b"n+1\0",
    "HTML": b"\n<!DOCTYPE html><html><body>Please log in</body></html>",
    "JSON": b'{"error": "not found"}',
    "base64": base64.b64encode(saved(picture(9, 7), "JPEG")),
    "address": b"https://example.org/photo.jpg",
}


@pytest.mark.parametrize("name", FILES)
def test_a_format_that_is_not_served_is_named_with_what_to_do(name: str) -> None:
    data = FILES[name]
    with pytest.raises(RequestError) as caught:
        decode(data)
    error = caught.value
    shown = {"MP4": "MP4", "MOV": "MOV", "HEIF": "HEIC", "address": "an address or a path"}
    assert (error.status, error.code) == (415, "unsupported_image_format")
    assert f"Got {len(data)} bytes that are" in str(error)
    assert shown.get(name, name) in str(error)
    assert any(each.advice in str(error) for each in FOREIGN)
    assert str(error).isprintable()


class TestRawPhotos:
    """TIFF-based: the first picture is a thumbnail, which must not be taken for the photo."""

    @pytest.mark.parametrize(
        "tags",
        [
            pytest.param({50706: [1, 4]}, id="DNG"),
            pytest.param({254: [1], 330: [8]}, id="NEF, ARW: reduced, the photo in a SubIFD"),
            pytest.param({262: [32803]}, id="a sensor's mosaic"),
        ],
    )
    def test_is_named(self, tags: dict[int, list[int]]) -> None:
        for samples in (EIGHT, EIGHT.astype(np.uint16)):
            with pytest.raises(RequestError, match=r"a camera's raw photo.*Develop it") as caught:
                decode(tiff_of(samples, tags=tags))
            assert caught.value.status == 415

    def test_cr2(self) -> None:
        data = bytearray(tiff_of(EIGHT))
        start = struct.unpack_from("<L", data, 4)[0]
        moved = data[:8] + b"CR\2\0" + data[8:]
        struct.pack_into("<L", moved, 4, start + 4)
        with pytest.raises(RequestError, match="a camera's raw photo"):
            decode(bytes(moved))

    def test_pages_and_pyramids_are_still_served(self) -> None:
        first, second = picture(40, 30), picture(20, 15)
        pages = saved(first, "TIFF", save_all=True, append_images=[second])
        np.testing.assert_array_equal(decode(pages), np.asarray(first))
        alone = tiff_of(EIGHT, tags={254: [1]})  # there is no other picture in it
        np.testing.assert_array_equal(decode(alone), EIGHT)
        with_smaller_ones = tiff_of(EIGHT, tags={330: [8]})
        np.testing.assert_array_equal(decode(with_smaller_ones), EIGHT)


class TestKindsThatAreNotRead:
    @pytest.mark.parametrize(
        ("data", "words"),
        [
            (tiff_of(np.zeros((6, 5, 5), np.uint8), tags={262: [1]}), "a TIFF with 5 bands of 8"),
            (tiff_of(np.zeros((6, 5, 5), np.uint16), tags={262: [1]}), "5 bands of 16 bits"),
            (tiff_of(np.zeros((6, 5, 2), np.uint8), planar=True), "2 bands of 8 bits, in planes"),
            (tiff_of(np.zeros((6, 5, 3), np.float32)), "3 bands of floating-point 32 bits"),
        ],
    )
    def test_of_tiff(self, data: bytes, words: str) -> None:
        with pytest.raises(RequestError, match=words) as caught:
            decode(data)
        assert caught.value.status == 415

    @pytest.mark.parametrize(
        ("place", "value", "words"),
        [(4, 12, "a JPEG of 12 bits"), (1, 0xC3, "lossless"), (1, 0xC5, "hierarchical")],
    )
    def test_of_jpeg(self, place: int, value: int, words: str) -> None:
        data = bytearray(saved(picture(40, 30), "JPEG"))
        data[data.index(b"\xff\xc0") + place] = value
        with pytest.raises(RequestError, match=words) as caught:
            decode(bytes(data))
        assert caught.value.status == 415


class TestDamaged:
    def test_a_chunk_of_a_png(self) -> None:
        data = bytearray(png(4, 4, 8, 0, bytes(20), (b"tEXt", b"a\0b")))
        data[data.index(b"tEXt") + 5] ^= 1
        with pytest.raises(InvalidImage, match=r"start as PNG.*checksum of the chunk b'tEXt'"):
            decode(bytes(data))

    @pytest.mark.parametrize("name", opening.FORMATS)
    def test_a_few_bytes_of_a_served_format(self, name: str) -> None:
        data = saved(picture(40, 30), name)
        for length in (20, 24, 40):
            with pytest.raises(InvalidImage):
                decode(data[:length])

    def test_a_kind_of_tiff_that_pillow_cannot_convert(self) -> None:
        data = tiff_of(np.zeros((6, 5, 4), np.uint8), planar=True, tags={338: [1]})
        with pytest.raises(RequestError, match=r"a TIFF with 4 bands of 8 bits, in planes"):
            decode(data)


@pytest.mark.skipif(not HAS_AVIF, reason="a Pillow without AVIF")
class TestAvif:
    """Served within the limits; what its AV1 data say counts, not what its container says."""

    FILE = saved(picture(40, 30), "AVIF") if HAS_AVIF else b""

    def test_the_limit_itself_is_served(self) -> None:
        assert decode(self.FILE, RequestLimits(max_image_pixels=1200)).shape == (30, 40, 3)
        with pytest.raises(ImageTooLarge):
            decode(self.FILE, RequestLimits(max_image_pixels=1199))

    def test_a_container_that_says_less_than_its_data(self) -> None:
        data = bytearray(self.FILE)
        at = data.index(b"ispe") + 8
        data[at : at + 8] = struct.pack(">LL", 4, 4)
        with pytest.raises(ImageTooLarge):
            decode(bytes(data), RequestLimits(max_image_pixels=1199))

    @pytest.mark.parametrize(("width", "height"), [(16384, 16384), (65536, 65536)])
    def test_a_small_file_of_a_huge_picture(self, width: int, height: int) -> None:
        with pytest.raises(ImageTooLarge, match=f"{width}x{height}"):
            decode(huge_avif(width, height))

    def test_sizes_are_those_of_the_pictures(self) -> None:
        assert frames_of(self.FILE).largest == (40, 30)
        with_alpha = frames_of(saved(picture(40, 30, "RGBA"), "AVIF"))
        assert with_alpha == ((40, 30), 2400)

    def test_an_animation(self) -> None:
        more = [picture(40, 30, seed=1)]
        data = saved(picture(40, 30), "AVIF", save_all=True, append_images=more)
        with pytest.raises(InvalidImage, match=r"an animation.*send one picture"):
            decode(data)

    def test_it_is_named_where_pillow_lacks_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(opening, "FORMATS", opening.FORMATS[:-1])
        with pytest.raises(RequestError, match=r"an AVIF file, which is not.*JPEG") as caught:
            decode(self.FILE)
        assert caught.value.status == 415


def test_other_pictures_are_as_before() -> None:
    """Nothing of a served format is taken for a foreign one."""
    for name in opening.FORMATS:
        if name != "AVIF":
            decoded = decode(saved(picture(33, 17), name))
            assert decoded.shape == (17, 33, 3)
    assert Image.fromarray(decode(saved(picture(33, 17, "CMYK"), "JPEG"))).size == (33, 17)
