"""Each model gets the bands that it was trained with: colours, grey, RGBA, or all as they are."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import tifffile
from detectron2.data.detection_utils import read_image
from numpy.typing import NDArray
from PIL import Image, ImageOps

from d2serve.handlers.errors import InvalidImage
from d2serve.handlers.requests.bands import viewable
from d2serve.handlers.requests.decoding import decode
from d2serve.handlers.requests.images import PixelArray, read_pixels
from d2serve.handlers.requests.pixels import check_pixels
from d2serve.handlers.spec.image_form import BANDS, COLOUR, GREY, RGBA, ImageForm
from d2serve.handlers.spec.limits import DEFAULT_LIMITS
from tests.handlers.samples import picture, saved

FORMS = [ImageForm(GREY, 1), ImageForm(RGBA, 4)]
FOUR = ImageForm(BANDS, 4)


def pixels_of(channels: int) -> NDArray[np.uint8]:
    return np.random.default_rng(channels).integers(0, 256, (13, 21, channels), np.uint8)


@pytest.mark.parametrize("form", FORMS, ids=["grey", "rgba"])
@pytest.mark.parametrize(
    ("mode", "file_format"),
    [(mode, "TIFF") for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK")]
    + [(mode, "JPEG") for mode in ("L", "RGB", "CMYK")]
    + [(mode, "PNG") for mode in ("L", "P", "RGBA")]
    + [("RGB", "WEBP"), ("RGB", "BMP"), ("P", "GIF")],
)
def test_a_file_is_what_read_image_makes_of_it(
    form: ImageForm, mode: str, file_format: str, tmp_path: Any
) -> None:
    data = saved(picture(33, 17, mode), file_format)
    file = tmp_path / "image"
    file.write_bytes(data)
    expected = read_image(str(file), form.image_format)
    np.testing.assert_array_equal(decode(data, form=form), expected)


def test_orientation_is_applied_to_grey() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = saved(picture(8, 5, "L"), "JPEG", exif=exif)
    assert decode(data, form=ImageForm(GREY, 1)).shape == (8, 5, 1)


@pytest.mark.parametrize("channels", [2, 4])
@pytest.mark.parametrize("file_format", ["PNG", "TIFF"])
def test_bands_of_a_file_are_taken_as_they_are(channels: int, file_format: str) -> None:
    pixels = pixels_of(channels)
    data = saved(Image.fromarray(pixels), file_format)
    np.testing.assert_array_equal(decode(data, form=ImageForm(BANDS, channels)), pixels)


@pytest.mark.parametrize("compression", [None, "adobe_deflate"])
@pytest.mark.parametrize("planes", ["contig", "separate"])
@pytest.mark.parametrize("byteorder", "<>")
@pytest.mark.parametrize(
    ("channels", "photometric", "extra"),
    [
        (2, "minisblack", ["unspecified"]),
        (4, "minisblack", ["unspecified"] * 3),
        (4, "minisblack", None),
        (4, "rgb", ["unspecified"]),
        (4, "rgb", ["assocalpha"]),
        (4, "rgb", ["unassalpha"]),
        (5, "rgb", ["unassalpha", "unspecified"]),
        (8, "minisblack", None),
        (13, "minisblack", None),
    ],
)
def test_all_bands_of_a_tiff_whatever_it_says_they_mean(
    channels: int,
    photometric: str,
    extra: list[str] | None,
    planes: str,
    compression: str | None,
    byteorder: Any,
) -> None:
    pixels = pixels_of(channels)
    how = {
        "byteorder": byteorder,
        "photometric": photometric,
        "planarconfig": planes,
        "extrasamples": extra,
        "compression": compression,
    }
    form = ImageForm(BANDS, channels)
    for options in ({"rowsperstrip": 5}, {"tile": (16, 16)}):
        data = tiff(pixels, **how, **options)
        np.testing.assert_array_equal(decode(data, form=form), pixels)
    deep = pixels.astype(np.uint16) * 256 + 7
    np.testing.assert_array_equal(decode(tiff(deep, **how), form=form), pixels)


def tiff(pixels: NDArray[Any], planarconfig: str = "contig", **options: Any) -> bytes:
    file = io.BytesIO()
    lying = np.moveaxis(pixels, 2, 0) if planarconfig == "separate" else pixels
    tifffile.imwrite(file, lying, planarconfig=planarconfig, **options)
    return file.getvalue()


@pytest.mark.parametrize("scale", [1, 256])
@pytest.mark.parametrize("planes", ["contig", "separate"])
@pytest.mark.parametrize("options", [{"byteorder": ">"}, {"tile": (16, 16)}])
def test_bands_that_are_written_as_differences(
    scale: int, planes: str, options: dict[str, Any]
) -> None:
    pixels = pixels_of(5)
    scaled = pixels if scale == 1 else pixels.astype(np.uint16) * scale
    how = {"compression": "zlib", "predictor": 2, "planarconfig": planes, **options}
    data = tiff(scaled, photometric="minisblack", **how)
    np.testing.assert_array_equal(decode(data, form=ImageForm(BANDS, 5)), pixels)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_bands_are_turned_upright(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels = pixels_of(4)
    upright = ImageOps.exif_transpose(_with(Image.fromarray(pixels), exif))
    data = tiff(pixels, photometric="minisblack", extratags=[(274, "H", 1, orientation, True)])
    np.testing.assert_array_equal(decode(data, form=FOUR), np.asarray(upright))


def _with(image: Image.Image, exif: Image.Exif) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "PNG", exif=exif)
    return Image.open(file)


def test_a_tiff_of_bands_that_is_cut_off_is_refused() -> None:
    data = tiff(pixels_of(6), photometric="minisblack")
    with pytest.raises(InvalidImage, match="cannot be decoded"):
        decode(data[:-200], form=ImageForm(BANDS, 6))


def test_a_model_of_colours_reads_a_tiff_of_four_bands_as_before() -> None:
    data = saved(picture(9, 7, "RGBA"), "TIFF")
    assert decode(data).shape == (7, 9, 3)


@pytest.mark.parametrize(("mode", "got"), [("L", "1 band"), ("RGB", "3 bands"), ("LA", "2 bands")])
def test_too_few_bands_are_refused_with_what_was_expected(mode: str, got: str) -> None:
    with pytest.raises(InvalidImage, match=f"{got} .*expected 4,"):
        decode(saved(picture(9, 7, mode), "PNG"), form=FOUR)
    with pytest.raises(InvalidImage, match=f"{got} .*expected 4,"):
        decode(saved(picture(9, 7, mode), "TIFF"), form=FOUR)


def test_a_grey_jpeg_has_no_three_bands() -> None:
    """What decodes JPEGs fast makes colours of grey."""
    with pytest.raises(InvalidImage, match="Got an image of 1 band"):
        decode(saved(picture(9, 7, "L"), "JPEG"), form=ImageForm(BANDS, 3))


def test_no_other_file_holds_six_bands() -> None:
    with pytest.raises(InvalidImage, match=r"hold 4 bands at most.*Open Inference.*width, 6\]"):
        decode(saved(picture(9, 7), "PNG"), form=ImageForm(BANDS, 6))
    with pytest.raises(InvalidImage, match=r"5 bands \(TIFF\), expected 6.*Send a TIFF of 6"):
        decode(tiff(pixels_of(5), photometric="minisblack"), form=ImageForm(BANDS, 6))


@pytest.mark.parametrize(
    ("shape", "form", "advice"),
    [
        ((5, 6), ImageForm(GREY, 1), "None"),
        ((5, 6, 3), FOUR, "takes 4 channels"),
        ((4, 5, 6), FOUR, "transpose"),
        ((5, 6, 4), COLOUR, "alpha"),
        ((5, 6, 1), COLOUR, "RGB"),
    ],
)
def test_arrays_of_other_channels_are_refused(
    shape: tuple[int, ...], form: ImageForm, advice: str
) -> None:
    array = np.zeros(shape, np.uint8)
    with pytest.raises(InvalidImage, match=rf"width, {form.channels}\) uint8.*{advice}"):
        check_pixels(array, form)
    if len(shape) == 3:
        with pytest.raises(InvalidImage, match=f"width, {form.channels}"):
            read_pixels(PixelArray(array), DEFAULT_LIMITS, form)


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 7])
def test_pixels_of_any_channels_can_be_looked_at(channels: int) -> None:
    pixels = pixels_of(channels)
    seen = viewable(pixels)
    assert seen.shape == (13, 21, 3)
    of_first = [0, 1, 2] if channels > 2 else [0, 0, 0]
    np.testing.assert_array_equal(seen, pixels[:, :, of_first])
