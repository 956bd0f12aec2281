"""Whatever is broken that a user gives to an export: one sentence names it, and nothing is written.

The example of a kind, its message and what it is made of are in ``broken_inputs``.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from d2serve.cli.app import app
from tests.cli.broken_inputs import CONFIGS, IMAGES, WEIGHTS, Case
from tests.export.conftest import write_tiny_config

WIDE = {"COLUMNS": "200"}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A config that works, with weights of its own."""
    return write_tiny_config(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(autouse=True)
def _in_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setenv("FVCORE_CACHE", str(tmp_path / "cache"))
    yield
    sys.modules.pop("broken_module", None)


def test_there_are_more_than_50() -> None:
    assert len({**CONFIGS}) + len(WEIGHTS) + len(IMAGES) >= 50


@pytest.mark.parametrize("name", CONFIGS)
def test_a_broken_config_is_named(name: str, tiny: Path) -> None:
    _refused(CONFIGS[name], tiny)


@pytest.mark.filterwarnings("ignore:Casting complex")
@pytest.mark.parametrize("name", WEIGHTS)
def test_broken_weights_are_named(name: str, tiny: Path) -> None:
    _refused(WEIGHTS[name], tiny)


@pytest.mark.parametrize("name", IMAGES)
def test_a_broken_sample_image_is_named(name: str, tiny: Path) -> None:
    _refused(IMAGES[name], tiny)


def _refused(case: Case, tiny: Path) -> None:
    write, said = case
    words = write(Path.cwd(), tiny)
    before = _files()
    result = CliRunner().invoke(app, ["export", *words, "--output", "store"], env=WIDE)
    message = " ".join(result.output.split())
    assert result.exit_code == 1, message
    assert isinstance(result.exception, SystemExit), result.exc_info
    assert len(re.findall(r"(?:^| )Error:", message)) == 1, message
    assert re.search(said, message), message
    for noise in ("Traceback", "weights_only", "\x1b", "graph("):
        assert noise not in result.output
    assert len(message) < 1500
    assert _files() == before


def _files() -> set[str]:
    return {
        os.path.join(folder, name)  # noqa: PTH118
        for folder, _folders, names in os.walk(".")
        for name in names
        if "__pycache__" not in folder
    }
