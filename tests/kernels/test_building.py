"""Where there is no compiler the package is built without kernels, and works and says so."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from d2serve.kernels import library as door
from d2serve.kernels import winograd
from tests.conftest import ROOT
from tests.kernels.building import needs_compiler


def built(folder: Path, **environment: str) -> list[Path]:
    """What setup.py builds of the kernels, from a copy of their sources."""
    sources = folder / "sources"
    shutil.copytree(ROOT / "kernels" / "native", sources / "kernels" / "native")
    for name in ("setup.py", "README.md", "LICENSE", "config.properties", "metrics.yaml"):
        shutil.copy(ROOT / name, sources)
    # All of pyproject.toml but the lists of packages, whose sources are not in the copy.
    project = (ROOT / "pyproject.toml").read_text()
    start, end = project.index("[tool.setuptools]"), project.index("[tool.ruff]")
    (sources / "pyproject.toml").write_text(
        f"{project[:start]}[tool.setuptools]\npackages = []\n\n{project[end:]}"
    )
    done = subprocess.run(
        [sys.executable, "setup.py", "-q", "build_ext", "-b", folder / "lib", "-t", folder / "o"],
        cwd=sources,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return list((folder / "lib").rglob("*.so"))


def test_without_a_compiler(tmp_path: Path) -> None:
    nothing = str(tmp_path / "no-compiler")
    assert built(tmp_path, CC=nothing, CXX=nothing, LDSHARED=nothing, LDCXXSHARED=nothing) == []


@needs_compiler
@pytest.mark.long
def test_with_a_compiler(tmp_path: Path) -> None:
    (file,) = built(tmp_path)
    assert file.relative_to(tmp_path) == Path("lib/d2serve/kernels/_native.so")


@pytest.mark.parametrize(
    ("content", "said"), [(None, "without its native kernels"), (b"no library", "do not load")]
)
def test_what_is_not_there_or_does_not_load_is_said_once(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    content: bytes | None,
    said: str,
) -> None:
    monkeypatch.setattr(door, "__file__", str(tmp_path / "library.py"))
    if content is not None:
        (tmp_path / door.FILE).write_bytes(content)
    door.library.cache_clear()
    try:
        with caplog.at_level(logging.INFO):
            assert door.library() is None
            assert door.ways() == ()
            assert [said in record.message for record in caplog.records] == [True]
            with pytest.raises(door.KernelsError, match="without its native kernels"):
                winograd.transformed_size(8, 8)
    finally:
        door.library.cache_clear()
