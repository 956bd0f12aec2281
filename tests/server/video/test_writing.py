"""A written video has the frames, colours and times of those it was made of."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from d2serve.server.video import writing
from d2serve.server.video.frames import Frame, VideoUnwritable
from d2serve.server.video.reading import stored_video
from d2serve.server.video.writing import written_video
from tests.server.video.clips import picture, write_clip


def copied(source: Path, target: Path) -> None:
    with (
        stored_video(str(source)) as video,
        written_video(target, video.rate) as written,
    ):
        for frame in video.frames():
            written.add(frame.pixels, frame)


@pytest.mark.parametrize("suffix", writing.SUFFIXES)
@pytest.mark.parametrize(
    ("times", "tick"),
    [
        (range(20), Fraction(1, 25)),
        (range(20), Fraction(1001, 30000)),
        ([3, 4, 9, 17, 100], Fraction(1, 1000)),
    ],
    ids=["25", "29.97", "varying"],
)
def test_frames_are_shown_when_they_were(
    tmp_path: Path, suffix: str, times: list[int], tick: Fraction
) -> None:
    source = write_clip(tmp_path / "a.mkv", times, tick)
    target = tmp_path / f"out{suffix}"
    copied(source, target)
    with stored_video(str(source)) as before, stored_video(str(target)) as after:
        frames, copies = list(before.frames()), list(after.frames())
    assert len(copies) == len(frames) == len(times)
    assert [each.time for each in copies] == pytest.approx([f.time for f in frames], abs=0.0011)
    for frame, copy in zip(frames, copies):
        assert np.abs(frame.pixels[24:].astype(int) - copy.pixels[24:])[5:-5, 20:].max() <= 4


def test_every_reader_shows_the_same_colours(tmp_path: Path) -> None:
    target = tmp_path / "out.mp4"
    with written_video(target, Fraction(25)) as written:
        for number in range(5):
            written.add(picture(number), Frame(number, picture(number), number, Fraction(1, 25)))
    ok, shown = cv2.VideoCapture(str(target)).read()
    assert ok
    for place, colour in (((5, 5), (200, 20, 20)), ((42, 5), (20, 20, 200)), ((24, 40), (20,) * 3)):
        assert np.abs(shown[place][::-1].astype(int) - colour).max() <= 6
    with av.open(str(target)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert stream.average_rate == 25
        assert stream.frames == 5


def test_odd_sides_grow_by_a_pixel(tmp_path: Path) -> None:
    target = tmp_path / "out.mp4"
    with written_video(target, None) as written:
        pixels = picture(3, 47, 63)
        written.add(pixels, Frame(0, pixels, 0, Fraction(1, 25)))
    with stored_video(str(target)) as video:
        (frame,) = video.frames()
    assert frame.pixels.shape == (48, 64, 3)
    assert np.abs(frame.pixels[24, 40].astype(int) - pixels[24, 40]).max() <= 3


def test_without_h264_it_is_mpeg4(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "_ENCODERS", ("mpeg4",))
    source = write_clip(tmp_path / "a.mp4", [0, 2, 3, 7], Fraction(1, 90_000 // 3600))
    copied(source, tmp_path / "out.mp4")
    with stored_video(str(tmp_path / "out.mp4")) as video:
        assert [round(each.time * 25) for each in video.frames()] == [0, 2, 3, 7]
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert container.streams.video[0].codec_context.name == "mpeg4"


def test_what_was_written_is_there_whatever_ends_it(tmp_path: Path) -> None:
    target = tmp_path / "new" / "out.mp4"

    def interrupted() -> None:
        with written_video(target, Fraction(25)) as written:
            for n in range(7):
                written.add(picture(n), Frame(n, picture(n), n, Fraction(1, 25)))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    with stored_video(str(target)) as video:
        assert [each.number for each in video.frames()] == list(range(7))


def test_a_video_of_no_frame_is_no_error(tmp_path: Path) -> None:
    with written_video(tmp_path / "out.mp4", None):
        pass


def test_where_nothing_can_be_written_it_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(VideoUnwritable, match="cannot be written"),
        written_video(tmp_path / "file" / "out.mp4", None),
    ):
        pass
