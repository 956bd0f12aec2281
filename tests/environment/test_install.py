"""`make` in an environment that has the user's own detectron2 leaves it working.

The environments are real, and so are pip and the Makefile. What is installed is a few lines each,
with the requirements and the ways to fail that the real packages have.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.environment.wheels import BACKEND, write_wheel

COMPILED = """
import torch
if torch.__version__ != "2.9.1":
    raise ImportError("undefined symbol: _ZN3c10")
"""
DETECTRON2 = {
    "detectron2/__init__.py": "",
    "detectron2/model_zoo.py": "import pkg_resources, iopath, drawing\nassert drawing.old\n",
    "detectron2/_C.py": COMPILED,
}
THERE = {
    "torch": "2.9.1",
    "torchvision": "0.24.1",
    "iopath": "0.1.9",
    "setuptools": "65.5.1",
    "drawing": "1",
    "detectron2": "0.6",
}


@dataclass(frozen=True)
class User:
    """Someone with an environment of their own and a copy of this project."""

    project: Path
    environment: Path
    wheels: Path

    def pip(self, *arguments: str) -> str:
        return self._run(str(self.environment / "bin" / "python"), "-m", "pip", *arguments).stdout

    def extras_need(self, *requirements: str) -> None:
        """Let the extras `export` and `server` be these requirements."""
        requires = [f'{each}; extra == "export"' for each in requirements]
        requires += ['torch; extra == "server"', 'drawing>=2; extra == "detectron2-runtime"']
        built = self.project / "built"
        shutil.rmtree(built, ignore_errors=True)
        write_wheel(built, "d2serve", "0.1.0", requires, {})

    def make(self) -> subprocess.CompletedProcess[str]:
        """Install for the demo, in the user's environment."""
        return self._run(
            "make", f"VENV={self.environment}", f"{self.environment}/.d2serve/demo", check=False
        )

    def versions(self) -> dict[str, str]:
        lines = self.pip("list", "--format=freeze").split()
        return dict(line.split("==") for line in lines)

    def works(self) -> bool:
        python = self.environment / "bin" / "python"
        done = self._run(str(python), "-c", "from detectron2 import model_zoo, _C", check=False)
        return done.returncode == 0

    def _run(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        alone = {
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": str(self.wheels),
            "PIP_CONFIG_FILE": os.devnull,
        }
        kept = {key: os.environ[key] for key in ("PATH", "HOME", "TMPDIR") if key in os.environ}
        done = subprocess.run(
            command,
            cwd=self.project,
            env={**kept, **alone},
            text=True,
            capture_output=True,
            check=False,
        )
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done


def _write_wheels(folder: Path) -> None:
    for version in ("2.9.1", "2.14.1"):
        write_wheel(folder, "torch", version)
    for version, torch in (("0.24.1", "2.9.1"), ("0.29.1", "2.14.1")):
        write_wheel(folder, "torchvision", version, [f"torch=={torch}"])
    for version in ("0.1.9", "0.1.10"):
        write_wheel(folder, "iopath", version)
    for version in ("65.5.1", "80.10.2"):
        write_wheel(
            folder, "setuptools", version, (), {"pkg_resources.py": "", "setuptools.py": ""}
        )
    write_wheel(folder, "setuptools", "84.0.0", (), {"setuptools.py": ""})
    write_wheel(folder, "grpcio_tools", "1.85.1", ["setuptools>=77"])
    write_wheel(folder, "drawing", "1", (), {"drawing.py": "old = True\n"})
    write_wheel(folder, "drawing", "2", (), {"drawing.py": "old = False\n"})
    write_wheel(folder, "detectron2", "0.6", ["iopath<0.1.10", "drawing"], DETECTRON2)


@pytest.fixture(scope="module")
def untouched(tmp_path_factory: pytest.TempPathFactory) -> User:
    """An environment with a detectron2 that was compiled for its torch."""
    folder = tmp_path_factory.mktemp("user")
    user = User(folder / "project", folder / "mine", folder / "wheels")
    _write_wheels(user.wheels)
    user.project.mkdir()
    shutil.copy(ROOT / "Makefile", user.project)
    shutil.copytree(ROOT / "environment", user.project / "environment")
    (user.project / "pyproject.toml").write_text(
        '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
    )
    (user.project / "backend.py").write_text(BACKEND)
    (user.project / "requirements-detectron2.txt").write_text("")
    (user.project / "constraints.txt").write_text("torch==2.14.1\niopath==0.1.10\n")
    subprocess.run([sys.executable, "-m", "venv", str(user.environment)], check=True)
    user.pip(
        "install",
        "--quiet",
        "--upgrade",
        *(f"{name}=={version}" for name, version in THERE.items()),
    )
    assert user.works()
    return user


@pytest.fixture
def user(untouched: User, tmp_path: Path) -> Iterator[User]:
    mine = User(tmp_path / "project", tmp_path / "mine", untouched.wheels)
    shutil.copytree(untouched.project, mine.project)
    shutil.copytree(untouched.environment, mine.environment, symlinks=True)
    yield mine
    shutil.rmtree(mine.environment)


def refusal(done: subprocess.CompletedProcess[str], *parts: str) -> None:
    assert done.returncode != 0
    for part in parts:
        assert part in done.stderr


def test_torch_and_what_detectron2_asks_for_stay(user: User) -> None:
    user.extras_need("torch>=2.1", "torchvision", "iopath", "grpcio_tools")
    done = user.make()
    assert done.returncode == 0, done.stderr
    assert user.works()
    now, expected = user.versions(), {**THERE, "setuptools": "80.10.2", "grpcio_tools": "1.85.1"}
    assert {name: now[name] for name in expected} == expected


def test_what_cannot_be_installed_beside_it_is_named(user: User) -> None:
    before = user.versions()
    user.extras_need("iopath>=0.1.10")
    refusal(
        user.make(),
        "cannot be installed beside detectron2 0.6, torch 2.9.1",
        "iopath>=0.1.10",
        "iopath<0.1.10",
    )
    assert user.versions() == before


def test_an_installation_after_which_it_fails_is_undone(user: User) -> None:
    before = user.versions()
    user.extras_need("drawing>=2", "grpcio_tools")
    refusal(user.make(), "its model zoo fails with AssertionError", "drawing 2", "undone")
    assert user.versions() == before
    assert user.works()


def test_one_that_did_not_work_before_is_named_and_left_alone(user: User) -> None:
    user.pip("install", "--quiet", "setuptools==84.0.0")
    user.extras_need("torch")
    before = user.versions()
    refusal(user.make(), "detectron2 0.6", "does not work", "pip install 'setuptools<81'")
    assert user.versions() == before
