"""The commands and programs of docs/local.md, run as they stand there."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from d2serve.cli.predictions import predicting
from d2serve.server.video import live
from tests.client.answering_archives import answering_archive
from tests.conftest import ROOT
from tests.server.video.clips import write_clip

PAGE = (ROOT / "docs" / "local.md").read_text()
COMMANDS = [
    line
    for block in re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL)
    for line in block.splitlines()
]
PROGRAMS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the page names, and for a camera FFmpeg's own picture that moves."""
    monkeypatch.chdir(tmp_path)
    answering_archive(tmp_path / "shapes.mar")
    Image.new("RGB", (64, 48), "white").save("photo.jpg")
    (tmp_path / "photos").mkdir()
    for number in range(3):
        Image.new("RGB", (64, 48), "white").save(f"photos/{number}.png")
    images = [{"id": 5 + n, "file_name": f"photos/{n}.png"} for n in range(3)]
    content = {"images": images, "categories": [{"id": 3, "name": "circle"}]}
    (tmp_path / "annotations.json").write_text(json.dumps(content))
    write_clip(tmp_path / "clip.mp4")
    source = "testsrc=size=64x48:rate=50:duration=0.2,realtime"
    monkeypatch.setattr(live, "_device", lambda _: (source, "lavfi"))
    return tmp_path


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_the_page_answers(command: str, folder: Path) -> None:
    words = shlex.split(command.partition(" > ")[0])
    assert words[:2] == ["d2serve", "predict"]
    app = typer.Typer()
    app.command()(predicting.predict)
    result = CliRunner().invoke(app, words[2:])
    assert (result.exit_code, "circle" in result.stdout) == (0, True), result.output
    if "--draw" in words:
        drawn = folder / words[words.index("--draw") + 1]
        assert drawn.is_file() or len(list(drawn.iterdir())) > 0
    if "--coco-results" in words:
        results = json.loads((folder / "results.json").read_text())
        assert [(each["image_id"], each["category_id"]) for each in results] == [
            (5, 3),
            (6, 3),
            (7, 3),
        ]


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_program_of_the_page_answers(
    program: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    exec(program, {})
    said = capsys.readouterr().out
    assert said.startswith(("Outputs(48 x 64 pixels, Detections(1 in", "circle 1.0 (0.0, 0.0, 32"))
    assert (folder / "drawn.png").is_file() == ("draw(" in program)


def test_the_page_was_read() -> None:
    assert len(COMMANDS) == 9
    assert len(PROGRAMS) == 2
