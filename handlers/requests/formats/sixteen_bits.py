"""Brings samples of 16 bits to 8 as OpenCV's ``imread`` does: by libpng's and libtiff's rules.

Pillow, and so detectron2's ``read_image``, cuts grey values off at 255, which makes a white
picture, and mixes up colours that lie in planes. ``DefaultPredictor`` is documented with
``cv2.imread``, so its way is the default. The rules, equal to OpenCV 5.0's pixel for pixel (but for
grey tiles that the picture does not fill, of which OpenCV shifts the rows):

- PNG, and grey TIFF: the upper byte;
- TIFF of colours: 65535 becomes 255, rounded; and an alpha by which the colours are not multiplied
  yet is multiplied in;
- an alpha is left out otherwise.

Only Pillow unpacks here, and it gives whole samples of grey pictures alone. So a TIFF of several
bands is read as grey pictures: each plane is one, or bands beside each other are one that is as
many times wider.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from PIL import Image

from d2serve.handlers.requests.formats import tiff
from d2serve.handlers.requests.formats.tiff import TiffPage
from d2serve.handlers.spec.sixteen_bit import OPENCV, READ_IMAGE

Samples = npt.NDArray[np.uint16]
Pixels = npt.NDArray[np.uint8]

_CONVERTED = {OPENCV: "16-bit to 8-bit", READ_IMAGE: "16-bit to 8-bit, as by read_image"}

_PNG = b"\x89PNG\r\n\x1a\n"
_GREY_MODES = ("I;16", "I;16B", "I;16L")
_DIFFERENCES = 2  # of PREDICTOR
_ROWS_AT_ONCE = 256

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
    if image.mode not in _GREY_MODES:
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
    bands = page.bands
    if page.in_planes and bands > 1:
        planes = [_grey(data, page, opened, plane) for plane in range(bands)]
        rows = (
            np.stack([each[y : y + _ROWS_AT_ONCE] for each in planes], axis=2)
            for y in _starts(height)
        )
    else:
        whole = _grey(data, page, opened).reshape(height, width, bands)
        rows = (whole[y : y + _ROWS_AT_ONCE] for y in _starts(height))
    colours = 3 if bands > 2 else 1
    pixels = np.empty((height, width, colours), np.uint8)
    for y, some in zip(_starts(height), rows):
        pixels[y : y + len(some)] = _as_opencv(some, page, colours)
    return Image.fromarray(pixels if colours == 3 else pixels[:, :, 0])


def _starts(height: int) -> range:
    return range(0, height, _ROWS_AT_ONCE)


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


def _grey(
    data: bytes, page: TiffPage, opened: Callable[[bytes], Image.Image], plane: int | None = None
) -> Samples:
    """The samples of a plane, or of all bands beside each other."""
    width, height = page.size
    bands = 1 if plane is not None else page.bands
    with opened(_as_grey_file(data, page, bands, plane)) as image:
        if image.mode not in _GREY_MODES or image.size != (width * bands, height):
            raise ValueError(f"a TIFF of 16 bits that Pillow takes for {image.mode}")
        samples = np.asarray(image)
    if bands > 1 and page.one(tiff.PREDICTOR) == _DIFFERENCES:
        samples = _summed(samples.reshape(height, width, bands), page.one(tiff.TILE_WIDTH))
    return samples


def _summed(samples: Samples, tile_width: int) -> Samples:
    """Undo that each sample is written as its difference from the one to its left."""
    made, width = np.empty(samples.shape, np.uint16), samples.shape[1]
    for x in range(0, width, tile_width or width):
        tile = slice(x, x + (tile_width or width))
        np.add.accumulate(samples[:, tile], axis=1, dtype=np.uint16, out=made[:, tile])
    return made


def _as_grey_file(data: bytes, page: TiffPage, bands: int, plane: int | None) -> bytes:
    """The file with a directory at its end that tells of one grey picture in it."""
    pieces = {
        tag: _of_plane(page, tag, plane)
        for tag in (tiff.STRIP_OFFSETS, tiff.STRIP_SIZES, tiff.TILE_OFFSETS, tiff.TILE_SIZES)
    }
    as_they_are = (
        tiff.HEIGHT,
        tiff.COMPRESSION,
        tiff.FILL_ORDER,
        tiff.TILE_HEIGHT,
        tiff.ROWS_PER_STRIP,
    )
    tags = {
        **{tag: page.tags.get(tag, ()) for tag in as_they_are},
        **pieces,
        tiff.WIDTH: (page.one(tiff.WIDTH) * bands,),
        tiff.TILE_WIDTH: tuple(bands * each for each in page.tags.get(tiff.TILE_WIDTH, ())),
        tiff.BITS: (16,),
        tiff.PHOTOMETRIC: (tiff.BLACK_IS_ZERO,),
        tiff.SAMPLES: (1,),
        tiff.PREDICTOR: (1 if bands > 1 else page.one(tiff.PREDICTOR),),
    }
    return _with_directory(data, page.order, {tag: each for tag, each in tags.items() if each})


def _of_plane(page: TiffPage, tag: int, plane: int | None) -> tuple[int, ...]:
    values = page.tags.get(tag, ())
    if plane is None:
        return values
    each = len(values) // page.bands
    return values[plane * each : (plane + 1) * each]


def _with_directory(data: bytes, order: str, tags: dict[int, tuple[int, ...]]) -> bytes:
    """A file whose header leads to a new directory; all other offsets stay what they are."""
    start = len(data) + len(data) % 2
    entries, beyond = [], start + 2 + 12 * len(tags) + 4
    arrays = []
    for tag in sorted(tags):
        values = np.array(tags[tag], order + "u4").tobytes()
        if len(values) > 4:
            arrays.append(values)
            values, beyond = struct.pack(order + "L", beyond), beyond + len(values)
        entries.append(struct.pack(order + "HHL", tag, 4, len(tags[tag])) + values)
    directory = struct.pack(order + "H", len(tags)) + b"".join(entries) + bytes(4)
    header = (b"II" if order == "<" else b"MM") + struct.pack(order + "HL", 42, start)
    return b"".join((header, data[8:], bytes(len(data) % 2), directory, *arrays))
