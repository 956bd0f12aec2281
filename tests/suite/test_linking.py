"""``make dev`` links the sources, a gate installs a copy, and neither leaves the other behind."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.installation import ROOMS

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="needs make")

WHERE = "import d2serve.{0} as found; print(found.__file__)"


class Project:
    """A copy of the project, with an environment in which all but d2serve is installed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for room in ROOMS:
            shutil.copytree(ROOT / room, folder / room)
        for file in ROOT.iterdir():
            if file.is_file() and not file.name.startswith("."):
                shutil.copy(file, folder)
        venv = folder / ".venv"
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
        self._python = venv / "bin" / "python"
        site = Path(self.run("import sysconfig; print(sysconfig.get_path('purelib'))"))
        (site / "zz-everything-else.pth").write_text(sysconfig.get_path("purelib"))
        stamps = venv / ".d2serve"
        stamps.mkdir()
        for stamp in ("venv", "demo", "test"):  # as if just made: nothing else is installed
            (stamps / stamp).touch()

    def make(self, target: str) -> None:
        done = subprocess.run(
            ["make", target],
            cwd=self.folder,
            check=False,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"

    def run(self, code: str, folder: Path | None = None) -> str:
        """What a new Python process prints, or the last line of its error."""
        done = subprocess.run(
            [self._python, "-c", code],
            cwd=folder or self.folder / ".venv",
            capture_output=True,
            text=True,
            check=False,
        )
        return (done.stdout or done.stderr).strip().splitlines()[-1]


def test_from_links_to_a_copy_and_back(tmp_path: Path) -> None:
    project = Project(tmp_path / "p")
    sources = project.folder / "handlers"
    package = ".venv/.d2serve/package"

    def is_linked(module: str) -> bool:
        return (sources / f"{module}.py").samefile(project.run(WHERE.format(f"handlers.{module}")))

    project.make("dev")
    assert is_linked("errors")
    (sources / "brand_new.py").write_text("")
    assert is_linked("brand_new"), "without another make dev"
    assert (project.folder / ".venv" / "bin" / "d2serve").is_file()

    # A worker's folder comes first, and what the archive in it lacks is lent by nobody.
    archive = tmp_path / "archive"
    (archive / "d2serve" / "handlers").mkdir(parents=True)
    for name in ("__init__.py", "errors.py"):
        shutil.copy(sources / name, archive / "d2serve" / "handlers")
    first = "import sys; sys.path.insert(0, '.'); "
    assert project.run(first + WHERE.format("handlers.errors"), archive).startswith(str(archive))
    assert "No module named" in project.run(first + WHERE.format("handlers.brand_new"), archive)

    project.make(package)
    assert "site-packages" in project.run(WHERE.format("handlers.brand_new"))
    (sources / "newer_than_the_copy.py").write_text("")
    assert "No module named" in project.run(WHERE.format("handlers.newer_than_the_copy"))

    project.make("dev")
    assert is_linked("newer_than_the_copy")
    assert is_linked("errors"), "no copy is left in its place"
