"""A frame of a video as a detector takes it, and what goes wrong with videos."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from d2serve.client.errors import ClientError

_QUARTER_TURN = 90


class VideoUnreadable(ClientError):
    """A video or camera cannot be opened, or not be decoded further."""


class VideoUnwritable(ClientError):
    """A video cannot be written."""


@dataclass(frozen=True)
class Frame:
    """One picture of a video."""

    number: int
    """Of all frames of the video, from 0."""
    pixels: NDArray[np.uint8] = field(repr=False)
    """(height, width, 3) in RGB order, turned as the video says."""
    ticks: int
    """When it is shown, after the first frame, in units of ``tick``."""
    tick: Fraction
    """In seconds."""

    @property
    def time(self) -> float:
        """When it is shown, in seconds after the first frame."""
        return float(self.ticks * self.tick)


def import_av(what: str) -> Any:
    """PyAV; raises VideoUnreadable, with what to install, where it is missing."""
    try:
        import av
    except ImportError as error:
        raise VideoUnreadable(
            f"Got {what}. Videos and cameras need the package av (PyAV), which {sys.executable} "
            f"cannot import ({error}). Install it: pip install 'd2serve[video]'"
        ) from error
    return av


def errors() -> tuple[type[Exception], ...]:
    """What PyAV raises of a file, stream or device that is not as it should be."""
    import av

    return av.FFmpegError, OSError, ValueError


def reason(error: Exception) -> str:
    """What FFmpeg says, without its number and the path."""
    return str(getattr(error, "strerror", None) or error)


def upright_rgb(decoded: Any) -> NDArray[np.uint8]:
    """The pixels of a decoded frame, by the matrix and range of colours that the video says.

    They are those of OpenCV's ``VideoCapture``, with which detectron2's demo reads videos.
    """
    pixels: NDArray[np.uint8] = decoded.to_ndarray(format="rgb24")
    turns = round(decoded.rotation / _QUARTER_TURN) % 4  # counter-clockwise
    return np.ascontiguousarray(np.rot90(pixels, turns)) if turns else pixels
