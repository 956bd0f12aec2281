"""A photo as a browser can show it.

Browsers turn JPEGs as their EXIF orientation says. Other formats some turn and some do not, and
most do not know TIFF. On a photo that is turned otherwise, what is drawn lies in the wrong place.
"""

from __future__ import annotations

import io

from PIL import Image

from d2serve.handlers.requests.decoding import decode


def upright_png(photo: bytes) -> bytes:
    """A PNG, without EXIF, of the pixels that detectron2's ``read_image`` makes of an image file.

    Raises:
        RequestError: it is no image that is served, or too large.
    """
    file = io.BytesIO()
    Image.fromarray(decode(photo)).save(file, "PNG", compress_level=1)
    return file.getvalue()
