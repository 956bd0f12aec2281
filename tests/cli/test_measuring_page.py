"""The commands of docs/measuring.md are run as they stand there."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT, Exporter

pytestmark = pytest.mark.long
COMMANDS = [
    command.replace("\\\n", " ")
    for block in re.findall(
        r"^```bash\n(.*?)^```",
        (ROOT / "docs" / "measuring.md").read_text(),
        re.MULTILINE | re.DOTALL,
    )
    for command in re.split(r"(?<!\\)\n", block.strip())
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, exported: Exporter) -> Path:
    """Where the commands run: with the archives, images and configs that they name."""
    here = tmp_path_factory.mktemp("page")
    store, images = here / "model_store", here / "heldout" / "images"
    store.mkdir()
    images.mkdir(parents=True)
    for name, kind in (("shapes", "tracing"), ("shapes_ov", "openvino")):
        (store / f"{name}.mar").symlink_to(exported("mask_rcnn_fpn", kind))
    (images / "sample.jpg").symlink_to(ROOT / "examples" / "shapes" / "sample.jpg")
    (here / "examples").symlink_to(ROOT / "examples")
    return here


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_the_page(command: str, folder: Path) -> None:
    words = command.split()
    assert words[0] == "d2serve"
    if words[1] == "bench":
        words += [] if "--seconds" in words else ["--seconds", "15"]
    program = str(Path(sys.executable).with_name("d2serve"))
    run = subprocess.run(
        [program, *words[1:]], cwd=folder, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr
    if words[1] == "bench":
        report = json.loads((folder / "measured" / "bench.json").read_text())
        assert report["advice"]["archive"].endswith(".mar")
        if "--config-file" in words:
            made = {row["runtime"] for row in report["rows"]}
            assert made == {"torchscript", "onnxruntime", "openvino"}
