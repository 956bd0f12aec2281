"""Reads a stored video frame by frame; no more than a few frames are in memory at once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path, PurePosixPath
from typing import Any

from d2serve.server.images.stored import ImagesUnreadable, is_address, opened
from d2serve.server.video.frames import (
    Frame,
    VideoUnreadable,
    errors,
    import_av,
    reason,
    upright_rgb,
)

SUFFIXES = frozenset(
    (
        *(".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".mts"),
        *(".m2ts", ".wmv", ".flv", ".3gp", ".ogv", ".mjpg", ".mjpeg", ".m3u8"),
    )
)
"""Of files and addresses that are taken for videos."""

_BY_FFMPEG = ("http://", "https://")
_SECONDS_TO_WAIT = 30.0
_MISSING_SECONDS = 0.1


def is_video(where: str) -> bool:
    """Whether a file or address has the suffix of a video."""
    return PurePosixPath(where.partition("?")[0]).suffix.lower() in SUFFIXES


class StoredVideo:
    """An open video: a file, or an address that fsspec or FFmpeg knows."""

    def __init__(self, name: str, container: Any) -> None:
        self._name = name
        self._container = container
        self._stream = _picture_stream(name, container)
        self.rate: Fraction | None = self._stream.average_rate
        """Frames a second, on average; None where the video does not say."""

    @property
    def count(self) -> int | None:
        """About how many frames there are; None where the video does not say."""
        if self._stream.frames:
            return int(self._stream.frames)
        duration = self._container.duration  # in microseconds
        return round(duration * self.rate / 1_000_000) if duration and self.rate else None

    def frames(self, every: int = 1) -> Iterator[Frame]:
        """Its frames in the order in which they are shown, the first and each ``every``-th after.

        Frames that are damaged are left out, and the others go on.

        Raises:
            VideoUnreadable: at the end, where some could not be decoded, or where it cannot be
                read any further.
        """
        clock, damage = Clock(self._stream), _Damage(self._name)
        number = packets = ticks = 0
        try:
            for packet in self._container.demux(self._stream):
                packets += packet.size > 0  # the last one is empty, and brings what is held back
                for decoded in _decoded(packet, damage, number):
                    ticks = clock.ticks(decoded, number)
                    if decoded.is_corrupt:
                        damage.add(number, "parts of it are missing")
                    elif number % every == 0:
                        yield Frame(number, upright_rgb(decoded), ticks, clock.tick)
                    number += 1
        except errors() as error:
            raise damage.end(number, reason(error)) from error
        # Of a video that an editor has trimmed, some frames are there and not shown.
        missing = ((self._stream.duration or 0) - ticks - clock.each) * clock.tick
        if number == 0:
            raise damage.end(number, "it has no frame")
        lacking = packets + damage.frames < self._stream.frames
        if lacking and (damage.frames or missing > _MISSING_SECONDS):
            raise damage.end(number, f"it says that it has {self._stream.frames}")
        if damage.frames:
            raise damage.left_out()


class _Damage:
    """What of a video cannot be decoded."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._first = ""
        self.frames = 0

    def add(self, number: int, why: str) -> None:
        """Note that a frame, or what was to become the frame of this number, is damaged."""
        self._first = self._first or f"the first at frame {number}: {why}"
        self.frames += 1

    def left_out(self) -> VideoUnreadable:
        return VideoUnreadable(
            f"{self._name} has {self.frames} damaged frames ({self._first}), which are not "
            "answered; the others are. Copy it again, or repair it with ffmpeg."
        )

    def end(self, number: int, why: str) -> VideoUnreadable:
        damaged = f"; {self.frames} before were damaged, {self._first}" if self.frames else ""
        return VideoUnreadable(
            f"{self._name} cannot be decoded after {number} frames ({why}{damaged}): it is cut off "
            "or damaged. What came before is answered. Copy it again, or repair it with ffmpeg."
        )


def _decoded(packet: Any, damage: _Damage, number: int) -> list[Any]:
    """The frames that a packet brings; its damage is noted."""
    if packet.is_corrupt:
        damage.add(number, "parts of it are missing")
        return []
    try:
        return list(packet.decode())
    except errors() as error:
        damage.add(number, reason(error))
        return []


@contextmanager
def stored_video(where: str) -> Iterator[StoredVideo]:
    """Open a video.

    Raises:
        VideoUnreadable: it is missing, is no video, or PyAV is missing.
    """
    av = import_av(where)
    file = None
    expected: tuple[type[Exception], ...] = (*errors(), ImagesUnreadable)
    try:
        if is_address(where) and not where.startswith(_BY_FFMPEG):
            file = opened(where)
        container = av.open(file or where, timeout=None if file else _SECONDS_TO_WAIT)
    except expected as error:
        if file is not None:
            file.close()
        raise _not_opened(where, error) from error
    try:
        yield StoredVideo(where, container)
    finally:
        container.close()
        if file is not None:
            file.close()


class Clock:
    """When frames are shown after the first one; also of videos that do not say it."""

    def __init__(self, stream: Any) -> None:
        self.tick: Fraction = stream.time_base or Fraction(1, 1000)
        """In seconds."""
        self.each = round(1 / ((stream.average_rate or 25) * self.tick)) or 1
        """Ticks that a frame is shown, on average."""
        self._first: int | None = None
        self._last = -1

    def ticks(self, decoded: Any, number: int) -> int:
        """Of the next decoded frame; more than those of the frame before it."""
        shown = decoded.pts
        if self._first is None:
            self._first = shown if shown is not None else 0
        ticks = number * self.each if shown is None else shown - self._first
        self._last = max(ticks, self._last + 1)
        return self._last


def _picture_stream(name: str, container: Any) -> Any:
    if not container.streams.video:
        raise VideoUnreadable(f"{name} has no pictures, only {_kinds(container)}.")
    stream = container.streams.video[0]
    stream.thread_type = "AUTO"
    return stream


def _kinds(container: Any) -> str:
    return " and ".join(sorted({stream.type for stream in container.streams})) or "nothing"


def _not_opened(where: str, error: Exception) -> VideoUnreadable:
    if not is_address(where) and not Path(where).is_file():
        return VideoUnreadable(f"There is no video {where}. Correct the path.")
    return VideoUnreadable(
        f"{where} cannot be opened as a video ({reason(error)}). It is cut off, damaged, or of a "
        "kind that FFmpeg does not know. Copy it again, or convert it to MP4."
    )
