"""A live stream gives the latest frame, however slow its reader is."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from d2serve.server.video import live
from d2serve.server.video.frames import VideoUnreadable
from d2serve.server.video.live import is_live, live_video
from tests.server.video.clips import HEIGHT, WIDTH, number_of, write_clip


@pytest.fixture
def camera(monkeypatch: pytest.MonkeyPatch) -> None:
    """FFmpeg's own picture that moves, 50 frames a second, in the place of a device."""
    source = f"testsrc=size={WIDTH}x{HEIGHT}:rate=50:duration=0.5,realtime"
    monkeypatch.setattr(live, "_device", lambda _: (source, "lavfi"))


@pytest.mark.usefixtures("camera")
def test_a_slow_reader_gets_the_latest_frame() -> None:
    numbers, late = [], []
    with live_video("camera:0") as video:
        assert video.count is None
        begin = time.monotonic()
        for frame in video.frames():
            numbers.append(frame.number)
            late.append(time.monotonic() - begin - frame.time)
            assert frame.pixels.shape == (HEIGHT, WIDTH, 3)
            time.sleep(0.15)
    assert numbers == sorted(set(numbers))
    assert 2 <= len(numbers) <= 5  # of 25
    assert max(late) - late[0] < 0.5


@pytest.mark.usefixtures("camera")
def test_some_of_the_frames_and_an_early_end() -> None:
    with live_video("camera:0") as video:
        numbers = []
        for frame in video.frames(every=4):
            numbers.append(frame.number)
            if len(numbers) == 3:
                break
    assert [number % 4 for number in numbers] == [0, 0, 0]


@contextmanager
def sent_over_tcp(content: bytes) -> Iterator[str]:
    """A server that sends this to whoever connects."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def send() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.sendall(content)

        sender = threading.Thread(target=send)
        sender.start()
        yield f"tcp://127.0.0.1:{listening.getsockname()[1]}"
        sender.join(10)


def test_a_stream_that_is_joined_late_begins_when_it_can(tmp_path: Path) -> None:
    content = write_clip(tmp_path / "a.ts", range(40)).read_bytes()
    late = content[len(content) // 3 // 188 * 188 :]
    for sent, least in ((content, 1), (late, 0)):
        with sent_over_tcp(sent) as address, live_video(address) as video:
            numbers = [number_of(frame.pixels) for frame in video.frames()]
        assert numbers == sorted(numbers)
        assert len(numbers) >= least


@pytest.mark.parametrize(
    ("where", "told"),
    [
        ("/dev/video99", "No such file or directory.*camera that is connected"),
        ("camera:99", "camera:99 cannot be opened"),
        ("camera:front", "expected the number of a camera"),
        ("rtsp://127.0.0.1:9/stream", "Connection refused"),
    ],
)
def test_what_is_not_there_is_refused(where: str, told: str, monkeypatch: Any) -> None:
    monkeypatch.setattr("platform.system", lambda: "Linux")
    with pytest.raises(VideoUnreadable, match=told), live_video(where):
        pass


def test_what_is_live() -> None:
    assert all(map(is_live, ["camera:0", "/dev/video2", "rtsp://h/a", "udp://0.0.0.0:5000"]))
    assert not any(map(is_live, ["video.mp4", "camera.jpg", "http://h/a.mp4", "dev/video0"]))
