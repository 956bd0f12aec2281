"""Writes drawn frames as a video that plays at the speed of the one they come from."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from d2serve.server.video.frames import Frame, VideoUnwritable, errors, import_av, reason

SUFFIXES = (".mp4", ".mov", ".mkv")
"""Of files that can be written."""

_ENCODERS = ("libx264", "libopenh264", "mpeg4")
"""The first that PyAV's FFmpeg has."""
_OPTIONS = {"libx264": {"crf": "20", "preset": "veryfast"}}
_FINEST_OF_MPEG4 = 65535
_TICK = Fraction(1, 60_000)
_DEFAULT_RATE = Fraction(30)
_BT709, _LIMITED = 1, 1  # AVCOL_SPC_BT709 and its kin, AVCOL_RANGE_MPEG


class VideoWriter:
    """A video that is being written; its form is that of its first frame."""

    def __init__(self, path: Path, container: Any, encoder: str, rate: Fraction | None) -> None:
        self._path = path
        self._container = container
        self._encoder = encoder
        self._rate = rate or _DEFAULT_RATE
        self._stream: Any = None
        self._tick = _TICK
        self._last = -1

    def add(self, pixels: NDArray[np.uint8], frame: Frame) -> None:
        """Write a picture, (height, width, 3) in RGB order, shown when ``frame`` is.

        Raises:
            VideoUnwritable: the disk is full, say.
        """
        av = import_av(str(self._path))
        if self._stream is None:
            self._begin(pixels, frame)
        picture = av.VideoFrame.from_ndarray(_of_even_sides(pixels), format="rgb24")
        picture = picture.reformat(
            width=self._stream.width,
            height=self._stream.height,
            format="yuv420p",
            dst_colorspace=_BT709,
            dst_color_range=_LIMITED,
        )
        self._last = max(round(frame.ticks * frame.tick / self._tick), self._last + 1)
        picture.pts, picture.time_base = self._last, self._tick
        self._mux(picture)

    def finish(self) -> None:
        """Write what the encoder still holds."""
        if self._stream is not None:
            self._mux(None)

    def _begin(self, pixels: NDArray[np.uint8], frame: Frame) -> None:
        even = _of_even_sides(pixels)
        stream = self._container.add_stream(self._encoder, rate=self._rate)
        stream.height, stream.width = even.shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.options = _OPTIONS.get(self._encoder, {})
        if self._encoder == "mpeg4":
            stream.bit_rate = stream.height * stream.width * 8
        if self._encoder != "mpeg4" or frame.tick.denominator <= _FINEST_OF_MPEG4:
            self._tick = frame.tick
        context = stream.codec_context
        context.time_base = self._tick
        context.colorspace = context.color_primaries = context.color_trc = _BT709
        context.color_range = _LIMITED
        self._stream = stream

    def _mux(self, picture: Any) -> None:
        try:
            for packet in self._stream.encode(picture):
                self._container.mux(packet)
        except errors() as error:
            raise VideoUnwritable(
                f"The video {self._path} cannot be written ({reason(error)}). Is the disk full?"
            ) from error


@contextmanager
def written_video(path: Path, rate: Fraction | None) -> Iterator[VideoWriter]:
    """A new video, which holds what was added to it, whatever ends the block.

    Args:
        path: ends in one of ``SUFFIXES``.
        rate: of frames a second, about, for those who read the file's header; the times are those
            of the frames.

    Raises:
        VideoUnwritable: it cannot be written.
    """
    av = import_av(str(path))
    encoder = next(each for each in _ENCODERS if each in av.codecs_available)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        container = av.open(str(path), "w")
    except errors() as error:
        raise VideoUnwritable(f"The video {path} cannot be written ({reason(error)}).") from error
    writer = VideoWriter(path, container, encoder, rate)
    try:
        yield writer
    finally:
        try:
            writer.finish()
        finally:
            container.close()


def _of_even_sides(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """With its last row and column twice where there is an odd number of them: H.264's colours
    are of two by two pixels."""
    height, width = pixels.shape[:2]
    if height % 2 == width % 2 == 0:
        return pixels
    return np.pad(pixels, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
