"""``d2serve predict X.mar``: an archive answers images and videos here, without a server."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from PIL import Image
from pycocotools.coco import COCO
from typer.testing import CliRunner, Result

from d2serve.cli.predictions import predicting
from d2serve.client.predict.in_process import InProcessClient
from d2serve.client.results.prediction import Prediction
from d2serve.server.video import live
from d2serve.server.video.reading import stored_video
from tests.client.answering_archives import answering_archive
from tests.conftest import ROOT
from tests.server.video.clips import HEIGHT, WIDTH, picture, write_clip

GREYS = {"a": 50, "b": 150, "sub/c": 250}


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an archive, images and a video."""
    folder = tmp_path_factory.mktemp("here")
    answering_archive(folder / "shapes.mar")
    for name, grey in GREYS.items():
        file = folder / "images" / f"{name}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 30), (grey, grey, grey)).save(file)
    write_clip(folder / "clip.mp4")
    return folder


@pytest.fixture(autouse=True)
def _in_it(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(here)


def run(*arguments: object, sent: bytes | None = None) -> Result:
    app = typer.Typer()
    app.command()(predicting.predict)
    return CliRunner().invoke(app, [str(each) for each in arguments], input=sent)


def lines_of(*arguments: object, status: int = 0, sent: bytes | None = None) -> list[Any]:
    result = run(*arguments, "--json", sent=sent)
    assert result.exit_code == status, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


def scores(lines: Sequence[Any]) -> list[int]:
    return [round(each["instances"][0]["score"] * 255) for each in lines]


def test_images_of_every_kind_of_word(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text(f"{Path.cwd()}/images/b.png\n{Path.cwd()}/images/a.png\n")
    for words, expected in {
        ("images/a.png", "images/b.png"): [50, 150],
        ("images",): [50, 150, 250],
        ("images/*.png", "images/sub"): [50, 150, 250],
        (tmp_path / "list.txt",): [150, 50],
    }.items():
        lines = lines_of("shapes.mar", *words)
        assert scores(lines) == expected
        assert {(each["model"], each["version"]) for each in lines} == {("shapes", "2.0")}


def test_an_image_of_standard_input(tmp_path: Path) -> None:
    sent = Path("images/b.png").read_bytes()
    assert scores(lines_of("shapes.mar", "-", sent=sent)) == [150]
    result = run("shapes.mar", "-", "--draw", tmp_path, sent=sent)
    assert result.exit_code == 0
    assert "circle" in result.stdout
    with Image.open(tmp_path / "stdin.png") as drawn:
        assert drawn.size == (40, 30)


def test_an_unpacked_archive_and_a_path_are_archives(tmp_path: Path) -> None:
    with zipfile.ZipFile("shapes.mar") as archive:
        archive.extractall(tmp_path / "shapes")
    assert scores(lines_of(tmp_path / "shapes", "images/a.png")) == [50]
    result = run("./none", "images/a.png")
    assert result.exit_code == 1
    assert "There is no" in result.stderr


def test_a_bad_image_is_a_line_and_the_others_are_answered(tmp_path: Path) -> None:
    bad = tmp_path / "bad.png"
    bad.write_bytes(Path("images/a.png").read_bytes()[:40])
    result = run("shapes.mar", "images/a.png", bad, "none.png", "images/b.png", "--json")
    assert result.exit_code == 1
    first, broken, missing, last = map(json.loads, result.stdout.splitlines())
    assert scores([first, last]) == [50, 150]
    assert broken["error"]["code"] == "invalid_image"
    assert missing["error"]["code"] == "ImagesUnreadable"
    assert f"{bad}: The request was rejected (invalid_image): " in result.stderr
    assert "none.png" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["shapes.mar", "a.png", "--address", "h:1"], "--address is for a server, and shapes.mar"),
        (["shapes.mar", "a.png", "--version", "2.0"], "--version is for a server"),
        (["shapes", "a.png", "--threads", "2"], "--threads is for an archive, and shapes is the"),
        (["shapes", "a.png", "--device", "cuda"], "--device is for an archive"),
        (["shapes.mar", "a.png", "--coco-json", "a"], "--coco-results and --coco-json together"),
        (
            ["shapes.mar", "v.mp4", "--coco-json", "a", "--coco-results", "r"],
            "--coco-results is for images, and v.mp4 is a video",
        ),
        (["shapes.mar", "images", "--draw", "x.mp4"], "x.mp4 is a video, which is drawn of one"),
        (["shapes.mar", "a.mp4", "b.mp4", "--draw", "x.mp4"], "is drawn of one"),
    ],
)
def test_what_means_nothing_is_refused_by_name(arguments: list[str], told: str) -> None:
    result = CliRunner().invoke(_app(), arguments, env={"COLUMNS": "400", "D2SERVE_TOKEN": "t"})
    assert result.exit_code == 2
    assert told in result.output


def _app() -> typer.Typer:
    app = typer.Typer()
    app.command()(predicting.predict)
    return app


def test_the_settings_of_a_server_in_the_environment_harm_no_archive(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("D2SERVE_TOKEN", "secret")
    assert scores(lines_of("shapes.mar", "images/a.png", "--threads", 1)) == [50]


def test_options_of_a_request_reach_the_archive() -> None:
    (line,) = lines_of("shapes.mar", "images/a.png", "--masks", "polygon")
    assert line["instances"][0]["segmentation"] == [[0, 0, 20, 0, 20, 15, 0, 15]]
    (line,) = lines_of("shapes.mar", "images/a.png", "--classes", "square")
    assert line["instances"] == []


def test_coco_results_have_the_ids_of_the_data_set(tmp_path: Path) -> None:
    content = {
        "info": {},
        "images": [{"id": 7, "file_name": "a.png"}, {"id": 9, "file_name": "sub/c.png"}],
        "categories": [{"id": 90, "name": "circle"}, {"id": 4, "name": "dog"}],
        "annotations": [],
    }
    annotations, results = tmp_path / "annotations.json", tmp_path / "results.json"
    annotations.write_text(json.dumps(content))
    options = ["--coco-results", results, "--coco-json", annotations]
    done = run("shapes.mar", "images", *options)
    assert done.exit_code == 1  # b.png is no image of it
    assert "images/b.png: " in done.stderr
    assert "has no image images/b.png" in done.stderr
    loaded = COCO(str(annotations)).loadRes(str(results))
    found = loaded.loadAnns(loaded.getAnnIds())
    assert [(each["image_id"], each["category_id"]) for each in found] == [(7, 90), (9, 90)]
    assert found[0]["bbox"] == [0, 0, 20, 15]


def test_a_video_has_a_line_for_each_frame_and_is_drawn(tmp_path: Path) -> None:
    lines = lines_of("shapes.mar", "clip.mp4", "--draw", tmp_path / "drawn")
    assert [each["frame"] for each in lines] == list(range(12))
    assert [each["time"] for each in lines] == pytest.approx([n / 25 for n in range(12)])
    assert {each["video"] for each in lines} == {"clip.mp4"}
    for line in lines:
        assert line["instances"][0]["bbox"] == [0, 0, WIDTH / 2, HEIGHT / 2]
        assert line["instances"][0]["score"] == pytest.approx(
            picture(line["frame"]).mean() / 255, abs=0.01
        )
    assert [each.name for each in (tmp_path / "drawn").iterdir()] == ["clip.mp4"]
    with stored_video(str(tmp_path / "drawn" / "clip.mp4")) as video:
        assert video.rate == 25
        drawn = list(video.frames())
    assert [each.time for each in drawn] == pytest.approx([each["time"] for each in lines])
    for each in drawn:  # the mask is tinted, and the rest is as it was
        shown = each.pixels.astype(int)
        plain = picture(each.number).astype(int)
        assert np.abs(shown[30:40, 40:60] - plain[30:40, 40:60]).max() < 8
        assert np.abs(shown[16:22, 20:30] - plain[16:22, 20:30]).mean() > 15


def test_some_frames_of_a_video_and_a_file_to_draw_to(tmp_path: Path) -> None:
    result = run("shapes.mar", "clip.mp4", "--every", 5, "--draw", tmp_path / "out.mkv")
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines() == [
        f"clip.mp4 frame {n} ({n / 25:.2f} s): 1 circle" for n in (0, 5, 10)
    ]
    assert f"wrote {tmp_path / 'out.mkv'}" in result.stderr.replace("\n", "")
    with stored_video(str(tmp_path / "out.mkv")) as video:
        assert [each.time for each in video.frames()] == pytest.approx([0, 0.2, 0.4])


def test_videos_of_a_quoted_pattern(tmp_path: Path) -> None:
    for name in ("b", "a"):
        write_clip(tmp_path / f"{name}.mp4", range(2))
    lines = lines_of("shapes.mar", f"{tmp_path}/*.mp4")
    videos = [(Path(each["video"]).name, each["frame"]) for each in lines]
    assert videos == [("a.mp4", 0), ("a.mp4", 1), ("b.mp4", 0), ("b.mp4", 1)]
    several = run("shapes.mar", f"{tmp_path}/*.mp4", "--draw", "out.mp4")
    assert several.exit_code == 2


def test_images_and_videos_together_and_names_that_meet(tmp_path: Path) -> None:
    write_clip(tmp_path / "clip.mp4", range(2))
    words = ["clip.mp4", "images/a.png", tmp_path / "clip.mp4", "images/a.png"]
    lines = lines_of("shapes.mar", *words, "--draw", tmp_path / "drawn")
    assert [each.get("frame") for each in lines] == [*range(12), None, 0, 1, None]
    drawn = sorted(each.name for each in (tmp_path / "drawn").iterdir())
    assert drawn == ["a.png", "a_2.png", "clip.mp4", "clip_2.mp4"]


def test_a_video_that_is_cut_off_is_answered_up_to_there(tmp_path: Path) -> None:
    whole = write_clip(tmp_path / "a.mp4", range(40), options={"movflags": "faststart"})
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size * 3 // 4])
    lines = lines_of("shapes.mar", cut, "images/a.png", "--draw", tmp_path / "drawn", status=1)
    frames, (error, image) = lines[:-2], lines[-2:]
    assert [each["frame"] for each in frames] == list(range(len(frames)))
    assert f"cannot be decoded after {len(frames)} frames" in error["error"]["message"]
    assert scores([image]) == [50]
    with stored_video(str(tmp_path / "drawn" / "cut.mp4")) as video:
        assert len(list(video.frames())) == len(frames) > 5


def test_nothing_takes_the_place_of_what_it_was_drawn_of(tmp_path: Path) -> None:
    for name in ("a.png", "clip.mp4"):
        source = Path("images/a.png") if name == "a.png" else Path("clip.mp4")
        (tmp_path / name).write_bytes(source.read_bytes())
        before = (tmp_path / name).read_bytes()
        result = run("shapes.mar", tmp_path / name, "--draw", tmp_path)
        assert result.exit_code == 1
        assert "take the place of the image itself" in result.stderr
        assert (tmp_path / name).read_bytes() == before


def test_a_camera_is_answered(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    source = f"testsrc=size={WIDTH}x{HEIGHT}:rate=50:duration=0.4,realtime"
    monkeypatch.setattr(live, "_device", lambda _: (source, "lavfi"))
    lines = lines_of("shapes.mar", "camera:0", "--draw", tmp_path)
    assert lines
    assert all(each["video"] == "camera:0" and each["instances"] for each in lines)
    with stored_video(str(tmp_path / "camera_0.mp4")) as video:
        times = [each.time for each in video.frames()]
    shown = [each["time"] - lines[0]["time"] for each in lines]
    assert times == pytest.approx(shown, abs=0.002)


def test_many_images_are_summed_up(tmp_path: Path) -> None:
    for number in range(11):
        (tmp_path / f"{number:02}.png").write_bytes(Path("images/a.png").read_bytes())
    result = run("shapes.mar", tmp_path, "none.png", "--json")
    assert "11 images in " in result.stderr
    assert " a second), 1 failed" in result.stderr
    assert "images in" not in run("shapes.mar", "images").stderr


def test_without_av_images_are_answered_and_videos_say_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    image, video = lines_of("shapes.mar", "images/a.png", "clip.mp4", status=1)
    assert scores([image]) == [50]
    assert "pip install 'd2serve[video]'" in video["error"]["message"]


def test_a_server_answers_videos_in_the_same_way(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Server(InProcessClient):
        """One that takes what a server's clients take."""

        def predict(self, model: str, image: Any, **options: Any) -> Prediction:  # type: ignore[override]
            assert (model, options.pop("version")) == ("shapes", "2.0")
            return super().predict(image, **options)

    monkeypatch.setattr(predicting, "server_client", lambda *_: Server("shapes.mar"))
    words = ["clip.mp4", "images"]
    expected = lines_of("shapes.mar", *words)
    assert lines_of("shapes", *words, "--version", "2.0") == expected
    assert len(expected) == 15


REFUSING = """
import sys
class Refuser:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "torchvision", "detectron2", "ts", "cv2"):
            raise ImportError(name)
sys.meta_path.insert(0, Refuser())
from d2serve.cli.main import main
main()
"""


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-c", REFUSING, "predict", *map(str, arguments)]


def test_it_needs_neither_torch_nor_detectron2_nor_torchserve() -> None:
    done = subprocess.run(
        command("shapes.mar", "images", "clip.mp4", "--json"),
        env={**os.environ, "PYTHONPATH": str(ROOT / ".typed")},
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert scores([json.loads(line) for line in done.stdout.splitlines()[:3]]) == [50, 150, 250]
    assert len(done.stdout.splitlines()) == 15


def test_ctrl_c_keeps_the_coco_results_of_what_was_done(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    names = ("a.png", "b.png", "sub/c.png")
    images = [{"id": number, "file_name": name} for number, name in enumerate(names)]
    content = {"images": images, "categories": [{"id": 5, "name": "circle"}]}
    annotations, results = tmp_path / "annotations.json", tmp_path / "results.json"
    annotations.write_text(json.dumps(content))
    answer, answered = InProcessClient.predict, list[Prediction]()

    def interrupted(*args: Any, **options: Any) -> Prediction:
        if len(answered) == 2:
            raise KeyboardInterrupt
        answered.append(answer(*args, **options))
        return answered[-1]

    monkeypatch.setattr(InProcessClient, "predict", interrupted)
    options = ("--coco-results", results, "--coco-json", annotations)
    assert scores(lines_of("shapes.mar", "images", *options, status=130)) == [50, 150]
    assert [each["image_id"] for each in json.loads(results.read_text())] == [0, 1]


@pytest.mark.long  # what a signal does beyond the test before
def test_ctrl_c_keeps_what_was_done(tmp_path: Path) -> None:
    write_clip(tmp_path / "long.mp4", range(4000), Fraction(1, 1000), size=(16, 16))
    running = subprocess.Popen(
        command("shapes.mar", tmp_path / "long.mp4", "--json", "--draw", tmp_path / "out.mp4"),
        env={**os.environ, "PYTHONPATH": str(ROOT / ".typed")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert running.stdout is not None
        first = running.stdout.readline()
        time.sleep(0.3)
        running.send_signal(signal.SIGINT)
        rest, told = running.communicate(timeout=60)
    finally:
        running.kill()
    lines = [json.loads(line) for line in (first + rest).splitlines()]
    assert running.returncode == 130
    assert "Interrupted: what came before is answered." in told
    assert "Traceback" not in told
    assert 1 < len(lines) < 4000
    with stored_video(str(tmp_path / "out.mp4")) as video:
        assert abs(len(list(video.frames())) - len(lines)) <= 1
