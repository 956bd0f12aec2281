"""``d2serve serve`` and ``d2serve predict`` as a user runs them: commands, and a real server."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from PIL import Image

from d2serve.server.torchserve.config.ports import Ports
from d2serve.server.video.reading import stored_video
from tests.server.video.clips import write_clip

COMMAND = """
import typer
from d2serve.cli.predictions import predicting
from d2serve.cli.servers import serving
app = typer.Typer(pretty_exceptions_enable=False)
app.command("serve")(serving.serve)
app.command("predict")(predicting.predict)
app()
"""
HANDLER = """
class BoxHandler:
    def initialize(self, context):
        pass

    def handle(self, data, context):
        return [self.answer(item, i, context) for i, item in enumerate(data)]

    def answer(self, item, index, context):
        if not bytes(item.get("data") or item.get("body") or b"").startswith(b"\\x89PNG"):
            context.set_response_status(400, "Bad Request", index)
            return b'{"error": {"code": "invalid_image", "message": "not an image"}}'
        return (
            b'{"model": "boxes", "version": "1.0", "image": {"height": 40, "width": 60}, '
            b'"instances": [{"bbox": [5.0, 5.0, 30.0, 30.0], "bbox_mode": "XYXY_ABS", '
            b'"score": 0.75, "category_id": 0, "category_name": "circle"}]}'
        )
"""


@dataclass
class User:
    """Someone at a terminal, in a folder of their own."""

    folder: Path
    temporary: Path

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", COMMAND, *arguments],
            cwd=self.folder,
            env={**os.environ, "TMPDIR": str(self.temporary), "COLUMNS": "120"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        process = self.start(*arguments)
        output, errors = process.communicate(timeout=300)
        return subprocess.CompletedProcess(arguments, process.returncode, output, errors)


@pytest.fixture
def user(tmp_path: Path) -> Iterator[User]:
    temporary = Path(tempfile.mkdtemp(prefix="t-", dir="/tmp"))
    yield User(tmp_path, temporary)
    shutil.rmtree(temporary)


def make_archive(folder: Path, version: str = "1.0", file: str = "boxes.mar") -> Path:
    (folder / "tmp").mkdir()
    (folder / "model_store").mkdir(exist_ok=True)
    (folder / "box_handler.py").write_text(HANDLER)
    (folder / "model-config.yaml").write_text("minWorkers: 1\nmaxWorkers: 1\n")
    subprocess.run(
        [
            str(Path(sys.executable).parent / "torch-model-archiver"),
            "--model-name=boxes",
            f"--version={version}",
            "--handler=box_handler.py",
            "--config-file=model-config.yaml",
            "--export-path=model_store",
        ],
        cwd=folder,
        check=True,
        capture_output=True,
        env={"TMPDIR": str(folder / "tmp")},
    )
    shutil.rmtree(folder / "tmp")
    made = folder / "model_store" / "boxes.mar"
    return made.rename(made.with_name(file))


def command_of(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:  # it has ended since it was listed
        return ""


def port_options(ports: Ports) -> list[str]:
    return [
        f"--inference-port={ports.inference}",
        f"--management-port={ports.management}",
        f"--metrics-port={ports.metrics}",
        f"--grpc-port={ports.grpc_inference}",
        f"--grpc-management-port={ports.grpc_management}",
        "--probe-port=0",
    ]


@pytest.mark.server
def test_serve_and_predict_and_stop(user: User) -> None:
    make_archive(user.folder, "2.0", "boxes-2.0.mar")
    make_archive(user.folder)
    Image.new("RGB", (60, 40), "white").save(user.folder / "white.png")
    (user.folder / "broken.png").write_bytes(b"no image")
    ports = Ports.free()
    http = f"--address=127.0.0.1:{ports.inference}"
    grpc = f"--address=127.0.0.1:{ports.grpc_inference}"

    serving = user.start("serve", *port_options(ports))
    assert serving.stdout is not None
    said = ""
    while "Ctrl-C" not in said:
        line = serving.stdout.readline()
        assert line, f"ended too early: {serving.communicate()}"
        said += line
    family = psutil.Process(serving.pid).children(recursive=True)
    assert len(family) >= 3, "launcher, Java and a worker"
    assert "Serving boxes 1.0, 2.0" in said
    assert "boxes: 1.0 answers where a request names no version" in said
    assert f"http://127.0.0.1:{ports.inference}" in said
    assert str(user.folder / "key_file.json") in said

    curl = next(line for line in said.splitlines() if line.strip().startswith("curl"))
    answer = subprocess.run(
        ["bash", "-c", curl.replace("image.jpg", "white.png").replace("curl ", "curl -sS ", 1)],
        cwd=user.folder,
        check=True,
        capture_output=True,
    )
    assert json.loads(answer.stdout)["instances"][0]["category_name"] == "circle"

    table = user.run("predict", "boxes", "white.png", http)
    assert (table.returncode, table.stderr) == (0, "")
    assert "circle" in table.stdout
    assert "0.750" in table.stdout
    assert "5.0, 5.0, 30.0, 30.0" in table.stdout

    images = ("white.png", "broken.png", "missing.png", "white.png")
    lines = user.run("predict", "boxes", *images, grpc, "--protocol=grpc", "--json", "--draw=drawn")
    assert lines.returncode == 1, "two of the four could not be answered"
    first, broken, missing, last = (json.loads(line) for line in lines.stdout.splitlines())
    assert first == last == json.loads(answer.stdout)
    assert broken["error"] == {"code": "invalid_image", "message": "not an image"}
    assert "missing.png" in missing["error"]["message"]
    assert "broken.png" in lines.stderr
    with Image.open(user.folder / "drawn" / "white.png") as drawn:
        assert drawn.size == (60, 40)
        colours = drawn.getcolors()
        assert colours is None or len(colours) > 1, "something was drawn"
    assert (user.folder / "drawn" / "white_2.png").is_file()

    write_clip(user.folder / "clip.mp4", range(5), size=(40, 60))
    frames = user.run("predict", "boxes", "clip.mp4", http, "--json", "--draw=drawn.mp4")
    assert frames.returncode == 0, frames.stderr
    said_of = [json.loads(line) for line in frames.stdout.splitlines()]
    places = [(each["video"], each["frame"]) for each in said_of]
    assert places == [("clip.mp4", number) for number in range(5)]
    assert {each["instances"][0]["category_name"] for each in said_of} == {"circle"}
    with stored_video(str(user.folder / "drawn.mp4")) as video:
        assert [each.number for each in video.frames()] == [0, 1, 2, 3, 4]

    unknown = user.run("predict", "unknown", "white.png", "white.png", http)
    assert unknown.returncode == 1
    assert unknown.stderr.count("Model not found: unknown") == 1, "said once, not for each image"

    serving.send_signal(signal.SIGTERM)
    output, errors = serving.communicate(timeout=60)
    assert serving.returncode == 0, errors
    assert "Stopped." in errors
    assert "ACCESS_LOG" in output, "the log is streamed"
    _, alive = psutil.wait_procs(family, timeout=10)
    assert alive == []
    assert not os.path.lexists(user.folder / "key_file.json")
    assert list(user.temporary.iterdir()) == []


@pytest.mark.server
def test_ctrl_c_during_the_start_leaves_nothing(user: User) -> None:
    make_archive(user.folder)
    serving = user.start("serve", *port_options(Ports.free()))
    deadline = time.monotonic() + 60
    family: list[psutil.Process] = []
    while not any("ModelServer" in command_of(member) for member in family):
        assert time.monotonic() < deadline
        time.sleep(0.1)
        family = psutil.Process(serving.pid).children(recursive=True)
    serving.send_signal(signal.SIGINT)
    assert serving.wait(timeout=60) == 0
    _, alive = psutil.wait_procs(family, timeout=10)
    assert alive == []
    assert list(user.temporary.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["serve", "--probe-port=0"], "d2serve export"),
        (["serve", "--probe-port=0", "nothing.mar"], "nothing.mar"),
        (
            ["serve", "--probe-port=0", "x.mar", "--config", "nothing.properties"],
            "nothing.properties",
        ),
        (["serve", "--probe-port=0", "--model-store", "nowhere"], "nowhere"),
        (["predict", "boxes", "x.png", "--address", "127.0.0.1:1"], "d2serve serve"),
        (["predict", "boxes", "x.png", "--key-file", "none.json"], "none.json"),
    ],
)
def test_what_fails_at_once_is_one_line_and_status_1(
    user: User, arguments: list[str], told: str
) -> None:
    (user.folder / "x.png").write_bytes(b"x")
    result = user.run(*arguments)
    assert result.returncode == 1
    assert told in result.stderr
    assert "Traceback" not in result.stderr
    assert list(user.temporary.iterdir()) == []


def test_a_busy_port_names_the_option(user: User) -> None:
    ports = Ports.free()
    (user.folder / "model_store").mkdir()
    make_archive_like(user.folder / "model_store" / "m.mar")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", ports.inference))
        taken.listen()
        result = user.run("serve", *port_options(ports))
    assert result.returncode == 1
    assert f"{ports.inference} (inference)" in result.stderr
    assert "--inference-port" in result.stderr


def make_archive_like(path: Path) -> None:
    """As much of a .mar as is looked at before TorchServe is started."""
    import zipfile

    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("MAR-INF/MANIFEST.json", '{"model": {"modelName": "m"}}')
