"""Reads a camera or a live stream: always the latest frame, however long an answer takes.

A thread decodes what comes. Frames that come while one is answered are left out, so that answers
are never more than a frame behind.
"""

from __future__ import annotations

import platform
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from typing import Any

from d2serve.server.video.frames import (
    Frame,
    VideoUnreadable,
    errors,
    import_av,
    reason,
    upright_rgb,
)
from d2serve.server.video.reading import Clock

CAMERA = "camera:"
_DEVICE = "/dev/video"
_STREAMS = ("rtsp://", "rtsps://", "rtmp://", "rtmps://", "udp://", "tcp://", "rtp://", "srt://")

_SECONDS_TO_WAIT = 10.0
_SECONDS_TO_END = 2.0


def is_live(where: str) -> bool:
    """Whether this is a camera (``camera:0``, ``/dev/video0``) or the address of a live stream."""
    return where.startswith((CAMERA, _DEVICE, *_STREAMS))


class LiveVideo:
    """An open camera or live stream."""

    count = None
    """How many frames there will be is not known."""

    def __init__(self, name: str, container: Any) -> None:
        self._name = name
        self._container = container
        if not container.streams.video:
            raise VideoUnreadable(f"{name} sends no pictures.")
        self._stream = container.streams.video[0]
        self._news = threading.Condition()
        self._latest: tuple[int, int, Any] | None = None
        self._ended = False
        self._stopped = False
        self._error: Exception | None = None
        self._tick = Fraction(1)
        self.rate: Fraction | None = self._stream.average_rate

    def frames(self, every: int = 1) -> Iterator[Frame]:
        """The latest frame each time that one is taken, until the stream ends; with ``every``, of
        each so many that came the first.

        Raises:
            VideoUnreadable: the camera or stream failed.
        """
        reader = threading.Thread(target=self._read, args=(every,), daemon=True)
        reader.start()
        try:
            while True:
                with self._news:
                    while self._latest is None and not self._ended:
                        self._news.wait(0.2)  # a wait without end would not see Ctrl-C everywhere
                    taken, self._latest = self._latest, None
                if taken is None:
                    break
                number, ticks, decoded = taken
                yield Frame(number, upright_rgb(decoded), ticks, self._tick)
        finally:
            self._stopped = True
            reader.join(_SECONDS_TO_END)
        if self._error is not None:
            raise VideoUnreadable(
                f"{self._name} sends no frames any more ({reason(self._error)}). Is it still "
                "connected?"
            )

    def _read(self, every: int) -> None:
        try:
            clock = Clock(self._stream)
            self._tick = clock.tick
            for number, decoded in enumerate(self._decoded()):
                ticks = clock.ticks(decoded, number)
                if number % every == 0:
                    with self._news:
                        self._latest = number, ticks, decoded
                        self._news.notify()
        except Exception as error:
            self._error = error
        with self._news:
            self._ended = True
            self._news.notify()

    def _decoded(self) -> Iterator[Any]:
        """What can be decoded: whoever joins a stream late lacks its beginning at first."""
        for packet in self._container.demux(self._stream):
            if self._stopped:
                return
            try:
                frames = packet.decode()
            except errors():
                continue
            yield from (each for each in frames if not each.is_corrupt)


@contextmanager
def live_video(where: str) -> Iterator[LiveVideo]:
    """Open a camera or a live stream.

    Raises:
        VideoUnreadable: nothing is there, it sends no pictures, or PyAV is missing.
    """
    av = import_av(where)
    address, form = _device(where)
    options = {"rtsp_transport": "tcp"} if where.startswith("rtsp") else {}
    try:
        container = av.open(address, format=form, options=options, timeout=_SECONDS_TO_WAIT)
    except errors() as error:
        raise VideoUnreadable(
            f"{where} cannot be opened ({reason(error)}). Expected a "
            "camera that is connected and that nobody else uses, or a stream that is sent now."
        ) from error
    try:
        yield LiveVideo(where, container)
    finally:
        container.close()


def _device(where: str) -> tuple[str, str | None]:
    """What FFmpeg calls a camera, and what it reads it with."""
    name = where[len(CAMERA) :] if where.startswith(CAMERA) else None
    if name is None:
        return where, "v4l2" if where.startswith(_DEVICE) else None
    system = platform.system()
    if system == "Darwin":
        return name, "avfoundation"
    if system == "Windows":
        return f"video={name}", "dshow"
    if not name.isdigit():
        raise VideoUnreadable(
            f"Got {where}, expected the number of a camera, such as {CAMERA}0 for {_DEVICE}0."
        )
    return f"{_DEVICE}{name}", "v4l2"
