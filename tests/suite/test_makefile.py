"""The Makefile takes the Pythons on which everything runs, and no other."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

MAKE = shutil.which("make")
pytestmark = pytest.mark.skipif(MAKE is None, reason="needs make")
OUTSIDE = {
    name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))
}
"""Without what the make that runs these tests tells those that it starts."""


def made_by(version: tuple[int, int], folder: Path) -> subprocess.CompletedProcess[str]:
    """``make`` of the environment alone, with a Python that says it is of a version."""
    python = folder / "python-of-another-version"
    # Faked: a Python of each version is not on every machine.
    python.write_text(
        f'#!/bin/sh\n[ "$1" = -m ] && exec mkdir -p "{folder}/venv"\n'
        f"exec {sys.executable} -c "
        f'"import sys; sys.version_info = {(*version, 0)}; exec(sys.argv[1])" "$2"\n'
    )
    python.chmod(0o755)
    venv = folder / "venv"
    return subprocess.run(
        ["make", f"PYTHON={python}", f"VENV={venv}", f"{venv}/.d2serve/venv"],
        cwd=ROOT,
        env=OUTSIDE,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("version", [(3, 11), (3, 12), (3, 13)])
def test_a_python_on_which_everything_runs(version: tuple[int, int], tmp_path: Path) -> None:
    made = made_by(version, tmp_path)
    assert made.returncode == 0, made.stderr
    assert (tmp_path / "venv" / ".d2serve" / "venv").is_file()


@pytest.mark.parametrize("version", [(3, 9), (3, 10), (3, 14)])
def test_another_one_is_refused_with_what_to_do(version: tuple[int, int], tmp_path: Path) -> None:
    made = made_by(version, tmp_path)
    assert made.returncode != 0
    told = made.stderr.splitlines()[0]
    assert re.search(
        rf"3\.11, 3\.12 or 3\.13 is needed, and .* is {version[0]}\.{version[1]}", told
    )
    assert "make PYTHON=python3.11" in told
    assert not (tmp_path / "venv").exists()


def test_lint_installs_nothing_of_ours() -> None:
    """An edit would otherwise cost an installation before a test can run."""
    planned = subprocess.run(
        ["make", "-n", "-o", ".venv/.d2serve/test", "lint"],
        cwd=ROOT,
        env=OUTSIDE,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "ruff check" in planned
    assert "lint-imports" in planned
    assert "pip" not in planned
