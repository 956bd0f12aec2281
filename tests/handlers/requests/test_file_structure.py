"""Files that announce much work are refused at once, and what software writes is not mistaken."""

from __future__ import annotations

import io
import resource
import struct
import time
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from d2serve.handlers.errors import ImageTooLarge, ImageTooSlow, RequestError
from d2serve.handlers.requests.decoding import decode
from d2serve.handlers.requests.file_structure import FileStructure, structure_of
from d2serve.handlers.spec.limits import RequestLimits
from tests.handlers.samples import cases, picture, saved

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")

ANIMATED = ("GIF", "TIFF", "PNG", "WEBP", "MPO")


def frames(file_format: str, count: int, **options: Any) -> bytes:
    """A file of so many different pictures."""
    first, *others = (picture(16, 12, seed=i) for i in range(count))
    return saved(first, file_format, save_all=True, append_images=others, **options)


def refused(data: bytes, limits: RequestLimits | None = None) -> RequestError:
    """The refusal, which takes less than a second and next to no memory."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    with pytest.raises(RequestError) as caught:
        decode(data, limits or RequestLimits())
    assert time.perf_counter() - start < 1
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak < 50_000
    return caught.value


@pytest.mark.parametrize("count", [2, 5])
@pytest.mark.parametrize("file_format", ANIMATED)
def test_frames_are_bounded_and_the_first_is_answered(file_format: str, count: int) -> None:
    data = frames(file_format, count)
    pixels = decode(data, RequestLimits(max_frames=count))
    with Image.open(io.BytesIO(data)) as image:
        np.testing.assert_array_equal(pixels, np.asarray(image.convert("RGB")))
    error = refused(data, RequestLimits(max_frames=count - 1))
    assert isinstance(error, ImageTooLarge)
    assert f"more than {count - 1} frames" in str(error)


@pytest.mark.parametrize("file_format", ["GIF", "TIFF"])
@pytest.mark.parametrize("most", [1, 3, 4, 100])
def test_frames_are_counted_no_further_than_needed(file_format: str, most: int) -> None:
    assert structure_of(frames(file_format, 4), most) == FileStructure(frames=min(4, most + 1))


def test_big_tiff() -> None:
    assert structure_of(frames("TIFF", 3, big_tiff=True), 10) == FileStructure(frames=3)


def test_directories_in_a_circle() -> None:
    data = bytearray(saved(picture(8, 8), "TIFF"))
    (first,) = struct.unpack_from("<I", data, 4)
    (entries,) = struct.unpack_from("<H", data, first)
    struct.pack_into("<I", data, first + 2 + 12 * entries, first)
    assert structure_of(bytes(data), 50).frames == 51
    assert isinstance(refused(bytes(data)), ImageTooLarge)


@pytest.mark.parametrize(
    ("options", "scans"),
    [({}, 1), ({"subsampling": 2}, 1), ({"progressive": True}, 10)],
)
def test_scans(options: dict[str, Any], scans: int) -> None:
    assert structure_of(saved(picture(40, 30), "JPEG", **options), 1) == FileStructure(scans=scans)


def test_scans_of_a_grey_picture_and_behind_a_thumbnail() -> None:
    assert structure_of(saved(picture(40, 30, "L"), "JPEG"), 1) == FileStructure()
    thumbnail = b"Exif\0\0" + saved(picture(8, 8), "JPEG", progressive=True)
    data = saved(picture(40, 30), "JPEG", exif=thumbnail)
    assert structure_of(data, 1) == FileStructure()


def test_a_jpeg_of_a_thousand_scans() -> None:
    data = saved(picture(64, 48).resize((6000, 4000)), "JPEG", progressive=True, quality=1)
    last = data.rindex(b"\xff\xda")
    bomb = data[:-2] + data[last:-2] * 990 + data[-2:]
    error = refused(bomb)
    assert isinstance(error, ImageTooSlow)
    assert "in 1000 scans" in str(error)
    assert decode(data).shape == (4000, 6000, 3)


def chunk(kind: bytes, content: bytes = b"") -> bytes:
    crc = struct.pack(">I", zlib.crc32(kind + content))
    return struct.pack(">I", len(content)) + kind + content + crc


def in_pieces(file_format: str) -> bytes:
    """A file of millions of pieces, none of which matters to the picture."""
    data = saved(picture(16, 12), file_format)
    if file_format == "JPEG":
        return data[:2] + b"\xff\xfe\0\x02" * 2_000_000 + data[2:]
    if file_format == "PNG":
        return data[:33] + chunk(b"teXt") * 1_000_000 + data[33:]
    if file_format == "GIF":
        start = data.index(b"\x2c\0\0\0\0\x10\0")
        return data[:start] + b"\x21\xfe" + b"\x01a" * 10_000_000 + b"\0" + data[start:]
    tiles = 4_000_000
    entries = [(256, 16_000), (257, 3_000), (258, 8), (259, 1), (262, 1), (277, 1), (322, 16)]
    directory = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in entries)
    directory += struct.pack("<HHII", 323, 4, 1, 16) + struct.pack("<HHII", 324, 4, tiles, 200)
    head = struct.pack("<2sHIH", b"II", 42, 8, len(entries) + 2)
    return (head + directory + b"\0" * 4).ljust(200, b"\0") + b"\0" * 4 * tiles


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "GIF", "TIFF"])
def test_a_file_in_too_many_pieces(file_format: str) -> None:
    assert isinstance(refused(in_pieces(file_format)), ImageTooSlow)


WEBPS: dict[str, dict[str, Any]] = {
    "VP8 ": {},
    "VP8L": {"lossless": True},
    "VP8X": {"save_all": True, "append_images": [picture(47, 31, seed=1)]},
}


@pytest.mark.parametrize("kind", WEBPS)
def test_the_canvas_of_a_webp(kind: str) -> None:
    data = saved(picture(47, 31), "WEBP", **WEBPS[kind])
    assert data[12:16] == kind.encode()
    assert structure_of(data, 9).canvas == (47, 31)


@pytest.mark.parametrize("kind", WEBPS)
def test_a_webp_is_refused_before_its_decoder_takes_memory(kind: str) -> None:
    """Which would be 8 bytes a pixel, never touched, so that only the addresses show it."""
    edge = 16383
    data = bytearray(saved(picture(47, 31), "WEBP", **WEBPS[kind]))
    if kind == "VP8X":
        data[24:30] = (edge - 1).to_bytes(3, "little") * 2
    elif kind == "VP8L":
        data[21:25] = struct.pack("<L", (edge - 1) | (edge - 1) << 14)
    else:
        data[26:30] = struct.pack("<HH", edge, edge)
    before = addresses()
    error = refused(bytes(data))
    assert isinstance(error, ImageTooLarge)
    assert f"{edge}x{edge}" in str(error)
    assert addresses() - before < 50_000


def addresses() -> int:
    """The most of this process so far, in KB."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmPeak:")[2].split()[0])


def test_a_jpeg_behind_filling() -> None:
    data = saved(picture(16, 12), "JPEG")
    assert decode(data[:2] + b"\xff" * 100 + data[2:]).shape == (12, 16, 3)
    assert isinstance(refused(data[:2] + b"\xff" * 10_000_000 + data[2:]), ImageTooSlow)


def test_a_bigtiff_directory_of_a_million_entries() -> None:
    head = struct.pack("<2sHHHQ", b"II", 43, 8, 0, 16)
    data = head + struct.pack("<Q", 10**6) + struct.pack("<HHQQ", 999, 1, 1, 0) * 10**6 + b"\0" * 8
    assert isinstance(refused(data), ImageTooSlow)


def test_decoding_ends_at_its_deadline() -> None:
    data = saved(picture(4000, 3000), "PNG", compress_level=1)
    error = refused(data, RequestLimits(max_decode_seconds=0.001))
    assert isinstance(error, ImageTooSlow)
    assert "not decoded within 0.001 s" in str(error)


@cases(500)
@given(
    st.sampled_from([b"\xff\xd8", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"II*\0", b"MM\0+\0\x08\0\0"]),
    st.binary(max_size=300),
    st.integers(1, 5),
)
def test_whatever_the_bytes_are(start: bytes, rest: bytes, most: int) -> None:
    work = structure_of(start + rest, most)
    assert 0 <= work.frames <= most + 1
    assert work.scans <= 1 + len(rest) // 2


@cases(200)
@given(st.sampled_from([*ANIMATED, "JPEG", "BMP"]), st.data())
def test_whatever_is_changed_in_a_true_file(file_format: str, data: st.DataObject) -> None:
    animated = file_format in ANIMATED
    whole = frames(file_format, 2) if animated else saved(picture(9, 9), file_format)
    at = data.draw(st.integers(0, len(whole) - 1))
    changed = whole[:at] + data.draw(st.binary(max_size=4)) + whole[at + 1 :]
    assert structure_of(changed, 3).frames <= 4
