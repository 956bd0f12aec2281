"""Frames are those of OpenCV, with their numbers and times; what is broken is said."""

from __future__ import annotations

import sys
import threading
import tracemalloc
from fractions import Fraction
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import av
import cv2
import fsspec
import numpy as np
import pytest

from d2serve.server.video import frames as frames_module
from d2serve.server.video.frames import VideoUnreadable
from d2serve.server.video.reading import is_video, stored_video
from tests.server.video.clips import HEIGHT, WIDTH, number_of, write_clip


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


def frames_of(path: Path, every: int = 1) -> list[frames_module.Frame]:
    with stored_video(str(path)) as video:
        return list(video.frames(every))


@pytest.mark.parametrize("turned", [0, 90, 180, -90])
def test_frames_are_those_of_opencv(tmp_path: Path, turned: int) -> None:
    path = write_clip(tmp_path / "a.mp4", turned=turned)
    read = frames_of(path)
    capture = cv2.VideoCapture(str(path))
    for frame in read:
        ok, reference = capture.read()
        assert ok
        assert np.array_equal(frame.pixels, reference[:, :, ::-1])
        assert number_of(frame.pixels) == frame.number
    assert not capture.read()[0]
    assert len(read) == 12
    shape = (WIDTH, HEIGHT) if turned % 180 else (HEIGHT, WIDTH)
    assert read[0].pixels.shape == (*shape, 3)
    assert [each.time for each in read] == pytest.approx([n / 25 for n in range(12)])


@pytest.mark.parametrize("scale", [0, 1, 2], ids=["not said", "limited", "full"])
@pytest.mark.parametrize("matrix", [0, 1, 6], ids=["not said", "BT.709", "BT.601"])
def test_colours_are_those_of_opencv(tmp_path: Path, matrix: int, scale: int) -> None:
    path = write_clip(tmp_path / "a.mp4", range(2), colours=(matrix, scale))
    frame, _ = frames_of(path)
    ok, reference = cv2.VideoCapture(str(path)).read()
    assert ok
    assert np.array_equal(frame.pixels, reference[:, :, ::-1])
    assert np.abs(frame.pixels[5, 5].astype(int) - (200, 20, 20)).max() <= 4


def test_times_are_those_of_the_video_also_where_they_vary(tmp_path: Path) -> None:
    times = [100, 101, 105, 111, 150]
    path = write_clip(tmp_path / "a.mkv", times, Fraction(1, 1000))
    read = frames_of(path)
    assert [each.number for each in read] == [0, 1, 2, 3, 4]
    assert [each.time for each in read] == pytest.approx([0, 0.001, 0.005, 0.011, 0.05])


def test_some_of_the_frames_keep_their_numbers(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4")
    read = frames_of(path, every=5)
    assert [each.number for each in read] == [0, 5, 10]
    assert [number_of(each.pixels) for each in read] == [0, 5, 10]
    assert [each.time for each in read] == pytest.approx([0, 0.2, 0.4])


def test_a_video_says_how_many_frames_it_has(tmp_path: Path) -> None:
    for name in ("a.mp4", "a.mkv"):
        with stored_video(str(write_clip(tmp_path / name))) as video:
            assert video.count == 12
            assert video.rate == 25


def test_a_stream_without_times_gets_them(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mjpeg", encoder="mpeg4", format="m4v")
    read = frames_of(path)
    assert [each.number for each in read] == list(range(12))
    assert all(a.time < b.time for a, b in zip(read, read[1:]))


@pytest.mark.parametrize("share", [0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9])
@pytest.mark.parametrize("name", ["a.mp4", "a.avi"])
def test_a_file_that_is_cut_off_answers_what_it_has(
    tmp_path: Path, name: str, share: float
) -> None:
    whole = write_clip(tmp_path / name, range(40), options={"movflags": "faststart"})
    cut = tmp_path / f"cut_{name}"
    cut.write_bytes(whole.read_bytes()[: int(whole.stat().st_size * share)])
    read: list[int] = []

    def read_all() -> None:
        with stored_video(str(cut)) as video:
            read.extend(frame.number for frame in video.frames())

    told = rf"cut_{name} cannot be (decoded after \d+ frames|opened as a video) .*cut off"
    with pytest.raises(VideoUnreadable, match=told):
        read_all()
    assert read == list(range(len(read)))
    assert len(read) < 40


def test_damaged_frames_are_left_out_and_the_others_answered(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.avi", range(12), encoder="mpeg4")
    content = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        packets = [(each.pos or 0, each.size) for each in container.demux(video=0) if each.size]
    place, size = packets[4]
    content[place + 8 : place + 8 + size] = bytes(size)  # after the name and length
    path.write_bytes(content)
    read: list[frames_module.Frame] = []

    def read_all() -> None:
        with stored_video(str(path)) as video:
            read.extend(video.frames())

    with pytest.raises(VideoUnreadable, match=r"a\.avi has 1 damaged frames .*frame 4: .*others"):
        read_all()
    assert len(read) >= 10
    assert number_of(read[-1].pixels) == 11


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "There is no video"),
        (b"", "cannot be opened as a video"),
        (b"abc" * 999, "cannot be opened as a video .*Invalid data.*convert it to MP4"),
    ],
)
def test_what_is_no_video_is_refused(tmp_path: Path, content: bytes | None, told: str) -> None:
    path = tmp_path / "a.mp4"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(VideoUnreadable, match=told):
        frames_of(path)


def test_the_end_of_a_file_without_its_index_is_said_at_once(tmp_path: Path) -> None:
    whole = write_clip(tmp_path / "a.mp4").read_bytes()
    path = tmp_path / "cut.mp4"
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(VideoUnreadable, match="cut off, damaged"):
        frames_of(path)


def test_memory_is_that_of_a_few_frames(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", range(150))
    tracemalloc.start()
    try:
        with stored_video(str(path)) as video:
            count = sum(1 for _ in video.frames())
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert count == 150
    assert peak < 20 * HEIGHT * WIDTH * 3


def test_an_address_of_fsspec_is_read(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4")
    fsspec.filesystem("memory").pipe("/clips/a.mp4", path.read_bytes())
    with stored_video("memory://clips/a.mp4") as video:
        assert [number_of(each.pixels) for each in video.frames()] == list(range(12))


def test_an_address_of_the_web_is_read(tmp_path: Path) -> None:
    write_clip(tmp_path / "a.mp4", options={"movflags": "faststart"})
    handler = partial(Quiet, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            with stored_video(f"http://127.0.0.1:{server.server_port}/a.mp4") as video:
                assert [number_of(each.pixels) for each in video.frames()] == list(range(12))
        finally:
            server.shutdown()


def test_without_pyav_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(VideoUnreadable, match=r"pip install 'd2serve\[video\]'"), stored_video("a"):
        pass


def test_videos_are_known_by_their_suffixes() -> None:
    assert all(map(is_video, ["a.MP4", "s3://b/c.mov", "http://h/live.m3u8?key=1"]))
    assert not any(map(is_video, ["a.jpg", "mp4", "a.gif", "http://h/a?b=.mp4"]))
