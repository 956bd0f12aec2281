"""Small videos, made here, whose frames tell which they are."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

HEIGHT, WIDTH = 48, 64


def picture(number: int, height: int = HEIGHT, width: int = WIDTH) -> NDArray[np.uint8]:
    """Grey that rises with the number, up to 40, a red block above on the left, a blue below."""
    pixels = np.full((height, width, 3), 20 + 5 * (number % 40), np.uint8)
    pixels[: height // 4, : width // 4] = 200, 20, 20
    pixels[-height // 4 :, : width // 4] = 20, 20, 200
    return pixels


def number_of(pixels: NDArray[np.uint8]) -> int:
    """Which ``picture`` this is, however it is turned."""
    height, width = pixels.shape[:2]
    return round((int(pixels[height // 2, width // 2].mean()) - 20) / 5)


def write_clip(
    path: Path,
    times: Sequence[int] = range(12),
    tick: Fraction = Fraction(1, 25),
    encoder: str = "libx264",
    size: tuple[int, int] = (HEIGHT, WIDTH),
    turned: int = 0,
    colours: tuple[int, int] = (0, 0),
    **options: Any,
) -> Path:
    """A video whose frames are shown at these ticks; ``colours`` are FFmpeg's numbers of the matrix
    and of the range that the file says, and has where it says them."""
    matrix, scale = colours
    with av.open(str(path), "w", **options) as container:
        stream: Any = container.add_stream(encoder, rate=round(1 / tick))
        stream.height, stream.width, stream.pix_fmt = *size, "yuv420p"
        stream.codec_context.time_base = tick
        if encoder == "libx264":
            stream.options = {"crf": "1"}
        context = stream.codec_context
        context.colorspace = context.color_primaries = context.color_trc = matrix or 2
        context.color_range = scale
        if turned:
            stream.set_display_rotation(turned)
        for number, time in enumerate(times):
            frame = av.VideoFrame.from_ndarray(picture(number, *size), format="rgb24")
            frame = frame.reformat(
                format="yuv420p", dst_colorspace=matrix or None, dst_color_range=scale or None
            )
            frame.pts, frame.time_base = time, tick
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path
