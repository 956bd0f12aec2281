"""Brings samples of 16 bits to 8 as OpenCV's ``imread`` does: by libpng's and libtiff's rules.

Pillow, and so detectron2's ``read_image``, cuts grey values off at 255, which makes a white
picture, and mixes up colours that lie in planes. ``DefaultPredictor`` is documented with
``cv2.imread``, so its way is the default. The rules, equal to OpenCV 5.0's pixel for pixel (but for
grey tiles that the picture does not fill, of which OpenCV shifts the rows):

- PNG, and grey TIFF: the upper byte;
- TIFF of colours: 65535 becomes 255, rounded; and an alpha by which the colours are not multiplied
  yet is multiplied in;
- an alpha is left out otherwise.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from PIL import Image

from d2serve.handlers.requests.formats import tiff
from d2serve.handlers.requests.formats.tiff import TiffPage
from d2serve.handlers.requests.formats.tiff_samples import GREY_MODES, rows_of
from d2serve.handlers.spec.sixteen_bit import OPENCV, READ_IMAGE

Samples = npt.NDArray[np.uint16]
Pixels = npt.NDArray[np.uint8]

_CONVERTED = {OPENCV: "16-bit to 8-bit", READ_IMAGE: "16-bit to 8-bit, as by read_image"}

_PNG = b"\x89PNG\r\n\x1a\n"

# libtiff's (TIFFRGBAImage): v * 255 / 65535, rounded.
_ROUNDED = ((np.arange(65536, dtype=np.uint32) * 255 + 32767) // 65535).astype(np.uint8)


def conversion_of(data: bytes, page: TiffPage | None, way: str) -> str | None:
    """What a reply says of a file of 16 bits; None of any other.

    Args:
        data: the file.
        page: of a TIFF, what it says.
        way: one of ``SIXTEEN_BIT_WAYS``.
    """
    of_png = data.startswith(_PNG) and data[24:25] == b"\x10"
    if not of_png and (page is None or page.bits != 16):
        return None
    return _CONVERTED[way]


def is_read_by_hand(page: TiffPage) -> bool:
    """Whether a TIFF's first page is one for ``read_tiff``: 16 bits, grey or RGB, alpha or not."""
    photometric, bands = page.one(tiff.PHOTOMETRIC), page.bands
    grey = photometric in (tiff.WHITE_IS_ZERO, tiff.BLACK_IS_ZERO) and bands in (1, 2)
    colours = photometric == tiff.RGB and bands in (3, 4)
    same = set(page.tags.get(tiff.BITS, ())) == {16}
    whole = set(page.tags.get(tiff.SAMPLE_FORMAT, (tiff.UNSIGNED,))) <= {
        tiff.UNSIGNED,
        tiff.UNDEFINED,
    }
    return same and whole and (grey or colours)


def with_8_bits(image: Image.Image) -> Image.Image:
    """A decoded picture; of a grey one of 16 bits, as Pillow reads PNG, the upper bytes."""
    if image.mode not in GREY_MODES:
        return image
    return Image.fromarray(_upper(np.asarray(image)))


def read_tiff(data: bytes, page: TiffPage, opened: Callable[[bytes], Image.Image]) -> Image.Image:
    """The first page of a TIFF of which ``is_read_by_hand``, in 8 bits.

    Args:
        data: the file.
        page: what it says.
        opened: opens a file with Pillow.

    Returns:
        A picture of mode L or RGB, its orientation not applied.

    Raises:
        Exception: of nearly any type, where the file is damaged.
    """
    width, height = page.size
    colours = 3 if page.bands > 2 else 1
    pixels = np.empty((height, width, colours), np.uint8)
    for y, some in rows_of(data, page, opened):
        pixels[y : y + len(some)] = _as_opencv(some, page, colours)
    return Image.fromarray(pixels if colours == 3 else pixels[:, :, 0])


def _as_opencv(samples: Samples, page: TiffPage, colours: int) -> Pixels:
    bands = samples.shape[2]
    if colours == 1 and not (page.in_planes and bands > 1):
        grey = _upper(samples[:, :, :1])
        return 255 - grey if page.one(tiff.PHOTOMETRIC) == tiff.WHITE_IS_ZERO else grey
    pixels = _ROUNDED[samples[:, :, :colours]]
    if bands > colours and page.one(tiff.EXTRA_SAMPLES) == tiff.UNASSOCIATED:
        alpha = _ROUNDED[samples[:, :, colours:]].astype(np.uint32)
        pixels = ((pixels * alpha + 127) // 255).astype(np.uint8)
    return pixels


def _upper(samples: npt.NDArray[np.uint16]) -> Pixels:
    return (samples >> 8).astype(np.uint8)
