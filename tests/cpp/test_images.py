"""examples/cpp reads image files into the same pixels as the Python library, byte by byte."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from simplejpeg import encode_jpeg

from d2serve.handlers.errors import RequestError
from d2serve.handlers.requests.decoding import read_file
from d2serve.handlers.spec.image_form import BANDS, BGR, COLOUR, GREY, RGB, RGBA, ImageForm
from d2serve.handlers.spec.limits import DEFAULT_LIMITS
from d2serve.handlers.spec.sixteen_bit import READ_IMAGE
from tests.cpp.probing import Pixels, Probe

SIZES = ((1, 1), (1, 7), (9, 1), (16, 16), (37, 53), (3, 400), (61, 8), (64, 48))
FORMS = (
    ImageForm(BGR, 3),
    ImageForm(RGB, 3, READ_IMAGE),
    ImageForm(GREY, 1),
    ImageForm(GREY, 1, READ_IMAGE),
    ImageForm(RGBA, 4),
    ImageForm(BANDS, 1),
    ImageForm(BANDS, 2),
    ImageForm(BANDS, 3),
    ImageForm(BANDS, 4),
)
_RANDOM = np.random.default_rng(13)
_COLOUR_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
"""Samples of a pixel, by PNG's number of the kind of colour."""
# Adam7: where each pass begins, and its steps, along and down.
_PASSES = (
    *((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4)),
    *((0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)),
)
_TRANSPARENT = {
    0: (b"\0\1", b"\0\x55"),
    2: (b"\0\1\0\2\0\3",),
    3: (b"\0", b"\xff\0\x80", b"\xff\xff"),
}
"""What tRNS says, by kind of colour."""


def pixels(height: int, width: int, channels: int) -> Pixels:
    """A picture with smooth parts, edges and noise."""
    y, x = np.mgrid[:height, :width]
    smooth = np.stack([(x * (3 + c) + y * (5 - c)) % 256 for c in range(channels)], axis=2)
    noise = _RANDOM.integers(0, 256, (height, width, channels))
    return np.where(((x // 5 + y // 3) % 2 == 0)[:, :, None], smooth, noise).astype(np.uint8)


def jpegs(folder: Path) -> list[Path]:
    files = []
    for number, (height, width) in enumerate(SIZES):
        colour = Image.fromarray(pixels(height, width, 3))
        grey = colour.convert("L")
        for sampling in ("440", "411"):  # which Pillow does not write
            file = folder / f"{number}-{sampling}.jpg"
            file.write_bytes(encode_jpeg(np.asarray(colour), 90, colorsubsampling=sampling))
            files.append(file)
        for progressive in (False, True):
            for sampling in ("4:4:4", "4:2:2", "4:2:0"):
                for quality in (30, 95):
                    file = folder / f"{number}-{progressive}-{sampling}-{quality}.jpg".replace(
                        ":", ""
                    )
                    options = {"subsampling": sampling, "quality": quality}
                    colour.save(file, "JPEG", progressive=progressive, **options)
                    files.append(file)
            file = folder / f"{number}-{progressive}-grey.jpg"
            grey.save(file, "JPEG", progressive=progressive)
            files.append(file)
    colour.save(files[0].with_name("restart.jpg"), "JPEG", restart_marker_blocks=1)
    colour.save(files[0].with_name("rgb.jpg"), "JPEG", keep_rgb=True)
    return [*files, files[0].with_name("restart.jpg"), files[0].with_name("rgb.jpg")]


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">L", len(data)) + kind + data + struct.pack(">L", zlib.crc32(kind + data))


def png(width: int, height: int, bits: int, colour: int, *more: bytes, after: bytes = b"") -> bytes:
    """A PNG of noise, of any kind, with more chunks before its pixels, and after them."""
    samples = _COLOUR_SAMPLES[colour]
    row = (width * samples * bits + 7) // 8
    raw = _RANDOM.integers(0, 256, (height, row), np.uint8)
    filters = _RANDOM.integers(0, 5, (height, 1), np.uint8)
    packed = zlib.compress(np.hstack([filters, raw]).tobytes())
    half = len(packed) // 2
    header = struct.pack(">LLBBBBB", width, height, bits, colour, 0, 0, 0)
    pixels = chunk(b"IDAT", packed[:half]) + chunk(b"IDAT", b"") + chunk(b"IDAT", packed[half:])
    chunks = (chunk(b"IHDR", header), *more, pixels, after, chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def interlaced(data: bytes, size: tuple[int, int], bits: int, colour: int) -> bytes:
    """The same kind, interlaced (Adam7), of other noise."""
    samples = _COLOUR_SAMPLES[colour]
    width, height = size
    rows = []
    for x, y, dx, dy in _PASSES:
        columns, lines = -(-(width - x) // dx), -(-(height - y) // dy)
        if columns > 0 and lines > 0:
            row = (columns * samples * bits + 7) // 8
            rows += [b"\x01" + _RANDOM.bytes(row) for _ in range(lines)]
    header = struct.pack(">LLBBBBB", width, height, bits, colour, 0, 0, 1)
    at = data.index(b"IDAT") - 4
    packed = chunk(b"IDAT", zlib.compress(b"".join(rows)))
    return data[:8] + chunk(b"IHDR", header) + data[33:at] + packed + chunk(b"IEND", b"")


def pngs(folder: Path) -> list[Path]:
    kinds = [(b, 0) for b in (1, 2, 4, 8, 16)] + [(b, 3) for b in (1, 2, 4, 8)]
    kinds += [(b, c) for c in (2, 4, 6) for b in (8, 16)]
    files = []
    for bits, colour in kinds:
        colours = chunk(b"PLTE", _RANDOM.bytes(3 * min(2**bits, 200)))
        palette = [colours] if colour == 3 else []
        said = [chunk(b"tRNS", each) for each in _TRANSPARENT.get(colour, ())]
        extras = [[], *([each] for each in said)]
        for number, (height, width) in enumerate(SIZES):
            for which, extra in enumerate(extras):
                data = png(width, height, bits, colour, *palette, *extra)
                for name, made in (
                    ("plain", data),
                    ("adam7", interlaced(data, (width, height), bits, colour)),
                ):
                    file = folder / f"{bits}-{colour}-{number}-{which}-{name}.png"
                    file.write_bytes(made)
                    files.append(file)
    return files


WRONG = {
    "nothing": (b"", "Got no bytes"),
    "text": (b"not an image", "no JPEG or PNG file"),
    "gif": (b"GIF89a" + bytes(20), "GIF file, expected a JPEG or PNG file"),
    "webp": (b"RIFF0000WEBPVP8 ", "WebP file"),
    "cut header": (b"\x89PNG\r\n\x1a\n" + bytes(4), "start as PNG but cannot be decoded"),
    "no pixels": (b"\xff\xd8\xff\xd9", "start as JPEG but cannot be decoded"),
    "far too large": (png(1, 1, 8, 2)[:16] + b"\0\1\0\0\0\1\0\0" + bytes(50), "65536x65536"),
    "no width": (png(1, 1, 8, 2)[:16] + bytes(4) + png(1, 1, 8, 2)[20:], "expected at least 1x1"),
}


def compare(probe: Probe, files: list[Path], form: ImageForm) -> int:
    """Check that both read the same pixels, or that both refuse; gives how many were read."""
    read = 0
    for file, found in zip(files, probe.images(files, form)):
        try:
            expected = read_file(file.read_bytes(), DEFAULT_LIMITS, form)
        except RequestError:
            expected = None
        if expected is None:
            assert found.error is not None, f"{file.name} in {form} is read, and not by Python"
            continue
        assert found.error is None, f"{file.name} in {form}: {found.error}"
        assert found.pixels is not None
        assert found.pixels.shape == expected.pixels.shape, f"{file.name} in {form}"
        assert np.array_equal(found.pixels, expected.pixels), f"{file.name} in {form}"
        assert found.converted == expected.converted, file.name
        read += 1
    return read


@pytest.mark.parametrize("form", FORMS[:1] + FORMS[2:5:2] + FORMS[7:8], ids=str)
def test_jpegs(form: ImageForm, probe: Probe, tmp_path: Path) -> None:
    files = jpegs(tmp_path)
    grey = sum("grey" in file.name for file in files)
    expected = len(files) - grey if form.image_format == BANDS else len(files)
    assert compare(probe, files, form) == expected > 50


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_pngs(form: ImageForm, probe: Probe, tmp_path: Path) -> None:
    assert compare(probe, pngs(tmp_path), form) > 10


def exif(value: int, order: str = "<", kind: int = 3, count: int = 1) -> bytes:
    """EXIF with an orientation of a type of TIFF's, which may be a wrong one."""
    formats = {1: "B3x", 3: "H2x", 4: "L", 6: "b3x", 7: "B3x", 8: "h2x", 9: "l", 11: "f"}
    start = b"II*\0" if order == "<" else b"MM\0*"
    entry = struct.pack(order + "HHL", 0x0112, kind, count)
    if kind in (5, 12):
        entry += struct.pack(order + "L", 26)
        beyond = struct.pack(
            order + ("LL" if kind == 5 else "d"), value, *([1] if kind == 5 else [])
        )
    else:
        entry += struct.pack(order + formats[kind], value)
        beyond = b""
    return start + struct.pack(order + "LH", 8, 1) + entry + bytes(4) + beyond


_XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf tiff:Orientation="%d"/></x:xmpmeta>'
_PROFILE = b"Raw profile type exif"


def oriented(folder: Path) -> list[Path]:
    """Files that say in every way how they are to be turned, or say it wrongly."""
    jpeg = io.BytesIO()
    Image.fromarray(pixels(24, 37, 3)).save(jpeg, "JPEG")
    plain = jpeg.getvalue()

    def with_segments(*segments: bytes) -> bytes:
        packed = b"".join(b"\xff\xe1" + struct.pack(">H", len(s) + 2) + s for s in segments)
        return plain[:2] + packed + plain[2:]

    def with_text(kind: bytes, text: bytes) -> bytes:
        return png(19, 12, 8, 2, chunk(kind, text))

    mark, xmp = b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0"
    made = {f"jpeg-{o}-{v}": with_segments(mark + exif(v, o)) for o in "<>" for v in range(10)}
    made |= {f"png-{v}": png(19, 12, 8, 2, chunk(b"eXIf", exif(v))) for v in range(10)}
    made |= {
        f"kind-{k}": with_segments(mark + exif(6, kind=k)) for k in (1, 3, 4, 5, 6, 7, 8, 9, 11, 12)
    }
    made |= {f"xmp-{v}": with_segments(xmp + _XMP % v) for v in range(10)}
    made |= {
        "count-2": with_segments(mark + exif(6, count=2)),
        "count-0": with_segments(mark + exif(6, count=0)),
        "count-many": with_segments(mark + exif(6, count=9)),
        "count-outside": with_segments(mark + exif(6, count=99)),
        "cut": with_segments(mark + exif(6)[:-8]),
        "cut-more": with_segments(mark + exif(6)[:9]),
        "cut-header": with_segments(mark + exif(6)[:6]),
        "no-tiff": with_segments(mark + b"GIF8" + exif(6)[4:]),
        "big-tiff": with_segments(mark + b"II+\0" + exif(6)[4:]),
        "big-endian-big": with_segments(mark + b"MM\0+" + exif(6, ">")[4:]),
        "turned-mark": with_segments(mark + b"II\0*" + exif(6)[4:]),
        "twice-marked": with_segments(mark + mark + exif(6)),
        "in-two": with_segments(mark + exif(6)[:13], mark + exif(6)[13:]),
        "exif-and-xmp": with_segments(mark + exif(3), xmp + _XMP % 6),
        "broken-and-xmp": with_segments(mark + b"junk", xmp + _XMP % 6),
        "empty-and-xmp": with_segments(mark, xmp + _XMP % 6),
        "other-and-xmp": with_segments(
            mark + exif(6).replace(b"\x12\x01", b"\x13\x01"), xmp + _XMP % 6
        ),
        "xmp-later": with_segments(xmp + b"tiff:Orientation=8 tiff:Orientation>5<"),
        "png-after": png(19, 12, 8, 2, after=chunk(b"eXIf", exif(6))),
        "png-both": png(19, 12, 8, 2, chunk(b"eXIf", exif(3)), after=chunk(b"eXIf", exif(6))),
        "png-xmp": with_text(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + _XMP % 8),
        "png-xmp-z": with_text(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(_XMP % 5)),
        "png-xmp-after": png(
            19, 12, 8, 2, after=chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + _XMP % 7)
        ),
    }
    raw = b"\nexif\n%8d\n" % len(exif(6)) + (mark + exif(6)).hex().encode() + b"\n"
    made["png-raw"] = with_text(b"tEXt", _PROFILE + b"\0" + raw)
    made["png-raw-z"] = with_text(b"zTXt", _PROFILE + b"\0\0" + zlib.compress(raw))
    made["png-raw-odd"] = with_text(b"tEXt", _PROFILE + b"\0" + raw[:-2])
    made["png-raw-none"] = with_text(b"tEXt", _PROFILE + b"\0" + b"\nexif\n")
    made["png-raw-letters"] = with_text(b"tEXt", _PROFILE + b"\0" + raw.replace(b"4", b"x"))
    files = []
    for name, data in made.items():
        file = folder / name
        file.write_bytes(data)
        files.append(file)
    return files


def test_upright(probe: Probe, tmp_path: Path) -> None:
    files = oriented(tmp_path)
    assert compare(probe, files, COLOUR) == len(files)


def test_damaged_files_are_refused_as_by_python(probe: Probe, tmp_path: Path) -> None:
    """Cut anywhere: what is read nonetheless has the same pixels."""
    files = []
    for source in (*jpegs(tmp_path)[40:48], *pngs(tmp_path)[-4:]):
        data = source.read_bytes()
        for part in range(11):
            file = tmp_path / f"cut-{part}-{source.name}"
            file.write_bytes(data[: len(data) * part // 10 - (part == 10)])
            files.append(file)
    compare(probe, files, COLOUR)


def test_texts_that_unpack_to_more_than_any_software_writes(probe: Probe, tmp_path: Path) -> None:
    """33 MB of such pieces would unpack to 30 GB."""
    text = b"XML:com.adobe.xmp\0\0" + zlib.compress(bytes(1 << 20))
    file = tmp_path / "texts.png"
    file.write_bytes(png(8, 8, 8, 2, *[chunk(b"zTXt", text)] * 80))
    with pytest.raises(RequestError):
        read_file(file.read_bytes(), DEFAULT_LIMITS)
    [read] = probe.images([file])
    assert "in more pieces than any software writes" in str(read.error)


@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_image_is_told_in_a_sentence(name: str, probe: Probe, tmp_path: Path) -> None:
    data, message = WRONG[name]
    file = tmp_path / "image"
    file.write_bytes(data)
    [found] = probe.images([file])
    assert found.error is not None
    assert message in found.error
    assert found.error.endswith(".")


@pytest.mark.parametrize("kind", ["cmyk", "twelve bits", "arithmetic"])
def test_kinds_of_jpeg_that_are_not_read(kind: str, probe: Probe, tmp_path: Path) -> None:
    file = tmp_path / "image.jpg"
    Image.fromarray(pixels(9, 9, 3)).convert("CMYK" if kind == "cmyk" else "RGB").save(file)
    if kind != "cmyk":
        data = bytearray(file.read_bytes())
        frame = data.index(b"\xff\xc0")
        data[frame + 1 : frame + 5] = (
            b"\xc9\0\x11\x08" if kind == "arithmetic" else b"\xc1\0\x11\x0c"
        )
        file.write_bytes(data)
    [found] = probe.images([file])
    assert found.error is not None
    assert {"cmyk": "CMYK", "twelve bits": "12 bits", "arithmetic": kind}[kind] in found.error
    assert "Save it" in found.error
