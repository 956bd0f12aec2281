"""Decodes JPEGs by simplejpeg, which is faster than Pillow, where the pixels are the same.

Both run libjpeg-turbo, but each brings its own, and other versions of the library have rounded in
other ways. So it is used only for the kinds of JPEG of which Pillow can write samples, once such a
sample came out equal in this very process. All else, and every file about which simplejpeg
complains, is left to Pillow. See docs/decisions/0005-jpeg-decoder.md.
"""

from __future__ import annotations

import functools
import io

import numpy as np
import numpy.typing as npt
from PIL import Image
from PIL.JpegImagePlugin import get_sampling

try:
    from simplejpeg import decode_jpeg
# Not installed, or compiled for another numpy, which is a ValueError.
except Exception:
    decode_jpeg = None

# Pillow's numbers for 4:4:4, 4:2:2 and 4:2:0, the samplings that every Pillow writes.
_SAMPLINGS = (0, 1, 2)

_SAMPLE_EDGES = (71, 53)  # odd, so that the edges of blocks are in it


def decode_fast(data: bytes, image: Image.Image) -> npt.NDArray[np.uint8] | None:
    """The pixels of a JPEG where a decoder faster than Pillow's gives the same; otherwise None.

    Args:
        data: the file.
        image: the same, opened by Pillow.

    Returns:
        (H, W, 3) uint8 in RGB order, EXIF orientation not applied.
    """
    if decode_jpeg is None or image.format not in ("JPEG", "MPO"):
        return None
    sampling = 0 if image.mode == "L" else get_sampling(image)
    if image.mode not in ("L", "RGB") or sampling not in _SAMPLINGS:
        return None
    if not _same_here(image.mode, sampling, "progressive" in image.info):
        return None
    pixels = _decode(data)
    # What is not as Pillow read the header is for Pillow to judge.
    return pixels if pixels is not None and pixels.shape[1::-1] == image.size else None


def _decode(data: bytes) -> npt.NDArray[np.uint8] | None:
    try:
        # Strict: a warning of libjpeg is an error, since Pillow may answer such a file otherwise.
        pixels: npt.NDArray[np.uint8] = decode_jpeg(data, "RGB", strict=True)
    # The file is damaged, or of a kind that simplejpeg does not know.
    except Exception:
        return None
    return pixels


def sample(mode: str = "RGB", sampling: int = 2, progressive: bool = False) -> bytes | None:
    """A small JPEG: as it stands, of the kind that most send; None where Pillow cannot write it."""
    noise = np.random.default_rng(0).integers(0, 256, (*_SAMPLE_EDGES, 3), np.uint8)
    options = {} if mode == "L" else {"subsampling": sampling}
    file = io.BytesIO()
    try:
        Image.fromarray(noise).convert(mode).save(file, "JPEG", progressive=progressive, **options)
    except OSError:
        return None
    return file.getvalue()


@functools.cache
def _same_here(mode: str, sampling: int, progressive: bool) -> bool:
    """Whether a sample of this kind of JPEG becomes the same pixels as with Pillow."""
    data = sample(mode, sampling, progressive)
    if data is None:
        return False
    with Image.open(io.BytesIO(data)) as opened:
        expected = np.asarray(opened.convert("RGB"))
    pixels = _decode(data)
    return pixels is not None and np.array_equal(pixels, expected)
