"""What ``d2serve predict`` is to answer: images and frames, one after the other, from each word."""

from __future__ import annotations

import glob
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Callable, Optional

from d2serve.client.errors import ClientError, InvalidInput
from d2serve.client.predict.image_input import ImageInput
from d2serve.server.images.listing import is_pattern
from d2serve.server.images.sources import ImageFile, find_images
from d2serve.server.images.stored import is_address
from d2serve.server.video.frames import Frame
from d2serve.server.video.live import is_live, live_video
from d2serve.server.video.reading import is_video, stored_video

STDIN = "-"
IMAGES_HELP = (
    "Image files, folders, quoted patterns, lists (.txt), shards (.tar, .parquet), videos, cameras "
    "(camera:0, /dev/video0), live streams (rtsp://...), addresses (s3://...), or - for an image "
    "on standard input."
)


@dataclass(frozen=True)
class Input:
    """One image, or one frame of a video."""

    name: str
    """For people, and of an image its path."""
    read: Callable[[], ImageInput]
    """Gives it, colours of pixels in RGB order; raises ClientError."""
    video: Optional[Video] = None
    """That it is a frame of."""
    frame: Optional[Frame] = None


@dataclass(frozen=True)
class Video:
    """A video that is being answered."""

    name: str
    rate: Fraction | None
    """Frames a second; None where it does not say."""


class Inputs:
    """All that the words of a command line name."""

    def __init__(self, words: list[str], every: int) -> None:
        """
        Args:
            words: see ``IMAGES_HELP``.
            every: of a video the first frame is taken, and each so many after it.
        """
        self._every = every
        self._words = words
        self._stills = {word: _found(word) for word in words if not moves(word)}
        self.total: int | None = sum(map(len, self._stills.values()))
        """How many there are, as far as is known when the last one was given."""
        if any(map(is_live, words)):
            self.total = None

    def __iter__(self) -> Iterator[Input]:
        for word in self._words:
            if word in self._stills:
                yield from self._stills[word]
            else:
                yield from self._frames(word)

    def _frames(self, where: str) -> Iterator[Input]:
        number = None
        try:
            with live_video(where) if is_live(where) else stored_video(where) as opened:
                video = Video(where, opened.rate)
                count = opened.count
                if self.total is not None:
                    self.total += -(-(count or 0) // self._every)
                for frame in opened.frames(self._every):
                    number = frame.number
                    name = f"{where} frame {number} ({frame.time:.2f} s)"
                    yield Input(name, _giver(frame), video, frame)
        except ClientError as error:
            yield Input(where, _raiser(error))


def expanded(words: list[str]) -> list[str]:
    """The same, with the videos that a quoted pattern stands for in its place."""
    return [each for word in words for each in _videos(word) or [word]]


def _videos(word: str) -> list[str]:
    if not is_video(word) or not is_pattern(word) or is_address(word) or Path(word).exists():
        return []
    return sorted(glob.glob(word, recursive=True))  # noqa: PTH207 (Path's takes none from the root)


def moves(word: str) -> bool:
    """Whether a word names a video or a camera."""
    return is_live(word) or is_video(word)


def _found(word: str) -> list[Input]:
    """The images that a word names; where there are none, one that says so when it is read."""
    if word == STDIN:
        return [Input("stdin", _read_stdin)]
    try:
        return [Input(image.name, _reader(image)) for image in find_images(word)]
    except ClientError as error:
        return [Input(word, _raiser(error))]


def _reader(image: ImageFile) -> Callable[[], bytes]:
    def read() -> bytes:
        try:
            return image.read()
        except OSError as error:
            raise InvalidInput(f"The image cannot be read: {error.strerror or error}.") from error

    return read


def _read_stdin() -> bytes:
    return sys.stdin.buffer.read()


def _giver(frame: Frame) -> Callable[[], ImageInput]:
    return lambda: frame.pixels


def _raiser(error: ClientError) -> Callable[[], ImageInput]:
    def read() -> ImageInput:
        raise error

    return read
