"""Files of 16 bits a sample become what OpenCV's imread makes of them; nothing turns white."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from d2serve.client.results.prediction import parse_prediction
from d2serve.handlers.errors import ImageTooLarge, InvalidImage, UnsupportedImageFormat
from d2serve.handlers.requests.decoding import decode, read_file
from d2serve.handlers.requests.formats.tiff import EXTRA_SAMPLES, ORIENTATION, PHOTOMETRIC
from d2serve.handlers.requests.request import Request
from d2serve.handlers.service import Service
from d2serve.handlers.spec.image_form import COLOUR, GREY, RGBA, ImageForm
from d2serve.handlers.spec.limits import DEFAULT_LIMITS, RequestLimits
from d2serve.handlers.spec.sixteen_bit import OPENCV, READ_IMAGE
from tests.handlers.files import png, png_of, tiff_of
from tests.handlers.programs import write_archive
from tests.handlers.samples import cases, detectron2_reads, picture, saved

AS_READ_IMAGE = replace(COLOUR, sixteen_bit=READ_IMAGE)
EVERY_VALUE = np.arange(65536, dtype=np.uint16).reshape(256, 256, 1)
UNKNOWN, ASSOCIATED, UNASSOCIATED = 0, 1, 2


def opencv_reads(data: bytes) -> NDArray[np.uint8]:
    """What ``cv2.imread`` makes of a file, in RGB order."""
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert pixels is not None
    return pixels[:, :, ::-1].astype(np.uint8)


def assert_as_opencv(data: bytes) -> None:
    decoded = read_file(data, DEFAULT_LIMITS)
    np.testing.assert_array_equal(decoded.pixels, opencv_reads(data))
    assert decoded.converted == "16-bit to 8-bit"


@pytest.mark.parametrize("bands", [1, 2, 3, 4])
def test_every_value(bands: int) -> None:
    samples = np.repeat(EVERY_VALUE, bands, axis=2)
    assert_as_opencv(png_of(samples))
    assert_as_opencv(tiff_of(samples))
    assert_as_opencv(tiff_of(samples, planar=True))


@st.composite
def samples_of(draw: st.DrawFn) -> NDArray[np.uint16]:
    height, width = draw(st.integers(1, 40)), draw(st.integers(1, 40))
    bands = draw(st.integers(1, 4))
    most = draw(st.sampled_from([1, 255, 256, 4095, 65535]))
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    return random.integers(0, most, (height, width, bands), np.uint16, endpoint=True)


@cases(60)
@given(samples_of())
def test_png(samples: NDArray[np.uint16]) -> None:
    assert_as_opencv(png_of(samples))


@cases(300)
@given(
    samples_of(),
    st.fixed_dictionaries(
        {
            "order": st.sampled_from("<>"),
            "planar": st.booleans(),
            "deflated": st.booleans(),
            "differences": st.booleans(),
            "tile": st.sampled_from([None, None, (16, 16), (32, 16)]),
            "rows": st.sampled_from([None, 1, 7]),
            "big": st.booleans(),
        }
    ),
    st.sampled_from([UNKNOWN, ASSOCIATED, UNASSOCIATED]),
    st.booleans(),
)
def test_tiff(samples: NDArray[np.uint16], kind: Any, alpha: int, white_is_zero: bool) -> None:
    bands = samples.shape[2]
    tags: dict[int, list[int]] = {} if bands % 2 else {EXTRA_SAMPLES: [alpha]}
    if bands < 3 and white_is_zero:
        tags[PHOTOMETRIC] = [0]
    if not kind["deflated"]:
        kind["differences"] = False
    if kind["tile"] is not None:
        # OpenCV shifts the rows of grey tiles that the picture does not fill, and refuses the
        # smallest ones: so it is asked about the same samples in strips.
        decoded = decode(tiff_of(samples, **kind, tags=tags))
        kind["tile"] = None
        np.testing.assert_array_equal(decoded, opencv_reads(tiff_of(samples, **kind, tags=tags)))
    assert_as_opencv(tiff_of(samples, **kind, tags=tags))


def test_compressed_by_lzw_as_opencv_writes_it() -> None:
    random = np.random.default_rng(0)
    for shape in ((31, 45), (31, 45, 3), (31, 45, 4)):
        done, file = cv2.imencode(".tif", random.integers(0, 65536, shape, np.uint16))
        assert done
        assert_as_opencv(file.tobytes())


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("bands", [1, 3])
def test_orientation(bands: int, orientation: int) -> None:
    samples = np.random.default_rng(1).integers(0, 65536, (5, 8, bands), np.uint16)
    assert_as_opencv(tiff_of(samples, tags={ORIENTATION: [orientation]}))


def test_png_with_transparent_colours_and_of_12_bits() -> None:
    twelve = np.random.default_rng(2).integers(0, 4096, (9, 11, 1), np.uint16)
    assert_as_opencv(png_of(twelve))
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in twelve)
    assert_as_opencv(png(11, 9, 16, 0, rows, (b"tRNS", b"\0\7")))


@pytest.mark.parametrize("bands", [1, 3])
def test_read_images_way_for_those_who_ask(bands: int) -> None:
    samples = np.random.default_rng(3).integers(0, 65536, (9, 11, bands), np.uint16)
    for data in (png_of(samples), tiff_of(samples)):
        decoded = read_file(data, DEFAULT_LIMITS, AS_READ_IMAGE)
        np.testing.assert_array_equal(decoded.pixels, detectron2_reads(data))
        assert decoded.converted == "16-bit to 8-bit, as by read_image"


@pytest.mark.parametrize(("way", "score"), [(OPENCV, 0.2), (READ_IMAGE, 1)])
def test_an_archive_says_which_way_and_the_reply_what_was_done(
    tmp_path: Path, way: str, score: float
) -> None:
    """The program's score is its image's first value, of 255."""
    service = Service.open(write_archive(tmp_path, sixteen_bit=way))
    reply = service.reply(Request(png_of(np.full((20, 30, 1), 51 * 257, np.uint16))))
    prediction = parse_prediction(reply.body)
    assert prediction.instances[0].score == pytest.approx(score)
    assert (
        prediction.converted
        == {
            OPENCV: "16-bit to 8-bit",
            READ_IMAGE: "16-bit to 8-bit, as by read_image",
        }[way]
    )
    reply = service.reply(Request(saved(picture(9, 7), "PNG")))
    assert parse_prediction(reply.body).converted is None


def test_planes_that_pillow_mixes_up_are_refused_where_it_reads() -> None:
    data = tiff_of(np.zeros((5, 4, 4), np.uint16), planar=True, tags={EXTRA_SAMPLES: [2]})
    colours = tiff_of(np.zeros((5, 4, 3), np.uint16), planar=True)
    for file, form in ((data, ImageForm(RGBA, 4)), (colours, AS_READ_IMAGE)):
        with pytest.raises(UnsupportedImageFormat, match=r"in planes.*beside each other"):
            decode(file, form=form)


@pytest.mark.parametrize("bands", [1, 3])
def test_a_model_of_grey_gets_the_same_in_grey(bands: int) -> None:
    samples = np.random.default_rng(6).integers(0, 65536, (9, 11, bands), np.uint16)
    for data in (png_of(samples), tiff_of(samples)):
        grey = decode(data, form=ImageForm(GREY, 1))
        expected = np.asarray(Image.fromarray(opencv_reads(data)).convert("L"))
        np.testing.assert_array_equal(grey[:, :, 0], expected)


def test_where_both_readers_agree_nothing_changed() -> None:
    colours = png_of(np.random.default_rng(4).integers(0, 65536, (9, 11, 3), np.uint16))
    np.testing.assert_array_equal(decode(colours), detectron2_reads(colours))
    cmyk = tiff_of(np.full((4, 4, 4), 9000, np.uint16), tags={PHOTOMETRIC: [5]})
    decoded = read_file(cmyk, DEFAULT_LIMITS)  # only read_image reads it
    np.testing.assert_array_equal(decoded.pixels, detectron2_reads(cmyk))
    assert decoded.converted is not None
    assert read_file(saved(picture(9, 7), "TIFF"), DEFAULT_LIMITS).converted is None


@pytest.mark.parametrize(
    ("dtype", "bands", "words"),
    [
        (np.float32, 1, "1 band of floating-point 32 bits"),
        (np.float32, 3, "3 bands of floating-point 32 bits"),
        (np.float64, 1, "floating-point 64 bits"),
        (np.uint32, 1, "1 band of 32 bits"),
        (np.int32, 1, "signed 32 bits"),
        (np.int16, 1, "signed 16 bits"),
    ],
)
def test_values_of_which_white_is_not_known_are_refused(dtype: Any, bands: int, words: str) -> None:
    data = tiff_of(np.ones((6, 5, bands), dtype))
    for form in (COLOUR, AS_READ_IMAGE):
        with pytest.raises(UnsupportedImageFormat, match=words) as caught:
            decode(data, form=form)
        assert "Scale its values to 8 or 16 bits" in str(caught.value)


def test_their_samples_count_before_memory_is_taken() -> None:
    data = tiff_of(np.zeros((30, 40, 3), np.uint16), deflated=True)
    assert decode(data, RequestLimits(max_image_pixels=3600)).shape == (30, 40, 3)
    with pytest.raises(ImageTooLarge, match="expected at most 3,599"):
        decode(data, RequestLimits(max_image_pixels=3599))


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
def test_a_damaged_one_is_no_answer() -> None:
    data = tiff_of(np.random.default_rng(5).integers(0, 65536, (30, 40, 3), np.uint16))
    cut = data[: len(data) // 2]
    moved = bytearray(data)
    moved[4:8] = (len(data) - 8).to_bytes(4, "little")
    for damaged in (cut, bytes(moved), data.replace(b"\x11\x01\x04\x00", b"\x11\x01\x04\x09")):
        with pytest.raises((InvalidImage, UnsupportedImageFormat)):
            decode(damaged)


def test_a_grey_picture_of_16_bits_is_not_white() -> None:
    """A grey picture of 16 bits is the same picture as that of its upper bytes."""
    grey = np.asarray(picture(64, 48, "L")).astype(np.uint16)[:, :, None] * 257
    wanted = np.repeat((grey >> 8).astype(np.uint8), 3, axis=2)
    for data in (png_of(grey), tiff_of(grey), tiff_of(grey, order=">", deflated=True)):
        np.testing.assert_array_equal(decode(data), wanted)
