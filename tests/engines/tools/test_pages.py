"""The commands and the code of the tools' pages, as they stand there."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import fiftyone as fo
import pytest

from d2serve.server.annotating.asking import Model
from d2serve.server.annotating.cvat_function import CvatFunction
from tests.conftest import ROOT
from tests.engines.reference import Reference
from tests.engines.tools.cvat_server import TASK, Task, serving
from tests.engines.tools.fiftyone_database import database_in_memory


def _block(page: str, language: str) -> str:
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    found = re.search(rf"```{language}\n(.*?)```", text, re.DOTALL)
    assert found is not None
    return found[1]


def test_cvats_own_command(
    reference: Reference, models: Callable[[str], Model], frames: list[Path], tmp_path: Path
) -> None:
    (tmp_path / "shapes.mar").symlink_to(reference.archive)
    task = Task(frames[:5], CvatFunction(models("masks")).spec.labels)
    lines = _block("cvat.md", "bash").replace("\\\n", "").splitlines()
    (line,) = [each for each in lines if each.startswith("cvat-cli")]
    line = line.replace(" 137 ", f" {TASK} ")
    with serving(task) as address:
        command = shlex.split(line.replace("https://cvat.example", address))
        command[0] = str(Path(sys.executable).with_name("cvat-cli"))
        own = {"CVAT_ACCESS_TOKEN": "token", "XDG_CACHE_HOME": str(tmp_path)}
        ran = subprocess.run(
            command,
            cwd=tmp_path,
            env={**os.environ, **own},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
    assert ran.returncode == 0, ran.stderr
    wanted = [each for frame in frames[:5] for each in models("masks").predict(frame).instances]
    assert len(task.shapes) == sum(each.mask().any() for each in wanted) > 20


def test_fiftyones_code(
    reference: Reference, frames: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "shapes.mar").symlink_to(reference.archive)
    (tmp_path / "photos").mkdir()
    for frame in frames[:5]:
        (tmp_path / "photos" / frame.name).symlink_to(frame)
    monkeypatch.chdir(tmp_path)
    with database_in_memory():
        said: dict[str, object] = {}
        exec(_block("fiftyone.md", "python"), said)
        dataset = said["dataset"]
        assert isinstance(dataset, fo.Dataset)
        assert dataset.count("shapes.detections") > 20
        dataset.delete()
