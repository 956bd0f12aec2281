"""The sdist and the wheel, as `make dist` makes them, work in clean environments.

Each Python installs the wheel that was built from the sdist, from the package registry, which takes
minutes: run by `make test-all`.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from d2serve.server.torchserve.config.properties import safe_defaults
from tests.conftest import ROOT, Exporter

pytestmark = [pytest.mark.long, pytest.mark.timeout(1800)]
MINUTES = 60.0
PYTHONS = ("3.9", "3.11", "3.13")


def run(*command: str, folder: Path) -> str:
    done = subprocess.run(
        command, cwd=folder, text=True, capture_output=True, timeout=15 * MINUTES, check=False
    )
    assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return done.stdout


def interpreter(version: str) -> Path:
    """A Python of this version, from the PATH or pyenv; the test is skipped without one."""
    if sys.version_info[:2] == tuple(map(int, version.split("."))):
        return Path(sys.executable).resolve()
    pyenvs = sorted((Path.home() / ".pyenv" / "versions").glob(f"{version}.*/bin/python"))
    on_path = shutil.which(f"python{version}")
    for candidate in [*pyenvs, *([Path(on_path)] if on_path else [])]:
        asked = subprocess.run(
            [candidate, "--version"], capture_output=True, text=True, check=False
        )
        if asked.stdout.startswith(f"Python {version}."):
            return candidate
    pytest.skip(f"there is no Python {version} on this machine")


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that `make dist` fills, in a copy of the project."""
    project = tmp_path_factory.mktemp("dist") / "project"
    listed = run("git", "ls-files", "-z", folder=ROOT).split("\0")
    for name in filter(None, listed):
        if (ROOT / name).is_file():
            (project / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, project / name)
    run("make", f"PYTHON={sys.executable}", "dist", folder=project)
    return project / "dist"


def test_what_is_in_them(dist: Path) -> None:
    (wheel,), (sdist,) = dist.glob("*.whl"), dist.glob("*.tar.gz")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        assert (
            archive.read("d2serve/config.properties") == (ROOT / "config.properties").read_bytes()
        )
        assert archive.read("d2serve/metrics.yaml") == (ROOT / "metrics.yaml").read_bytes()
    tops = {name.partition("/")[0] for name in names}
    assert {top.partition("-")[0] for top in tops} == {"d2serve"}
    assert [name for name in names if name.count("/") == 1 and name.endswith(".py")] == []
    with tarfile.open(sdist) as source:
        inside = {member.name.partition("/")[2] for member in source}
    assert inside >= {"LICENSE", "README.md", "CHANGELOG.md", "SECURITY.md", "docs/security.md"}


@pytest.mark.parametrize("version", PYTHONS)
def test_the_wheel_serves_in_a_clean_environment(
    version: str, dist: Path, exported: Exporter, tmp_path: Path
) -> None:
    """As far as an image on disk and no server: the command, and the library that answers."""
    (wheel,) = dist.glob("*.whl")
    run(str(interpreter(version)), "-m", "venv", "mine", folder=tmp_path)
    python, d2serve = str(tmp_path / "mine/bin/python"), str(tmp_path / "mine/bin/d2serve")
    pip = (python, "-m", "pip", "--disable-pip-version-check", "install", "--quiet")
    run(*pip, f"{wheel}[server,onnxruntime]", folder=tmp_path)
    assert "0.1.0" in run(d2serve, "--version", folder=tmp_path)
    assert "serve" in run(d2serve, "--help", folder=tmp_path)
    assert "--json" in run(d2serve, "predict", "--help", folder=tmp_path)
    archive = exported("faster_rcnn_fpn", "onnxruntime")
    assert "onnxruntime" in run(d2serve, "inspect", str(archive), folder=tmp_path)
    settings = run(
        python,
        "-c",
        "from d2serve.server.torchserve.config import properties as p; print(p.safe_defaults())",
        folder=tmp_path,
    )
    assert settings.strip() == str(safe_defaults())
    asked = run(
        python,
        "-c",
        "import sys, numpy, PIL.Image;"
        "from d2serve.handlers.detector import Detector;"
        "image = numpy.asarray(PIL.Image.open(sys.argv[2]).convert('RGB'));"
        "(found,) = Detector.open(sys.argv[1])([image]);"
        "print(len(found.instances.scores),"
        " 'torch' in sys.modules, 'detectron2' in sys.modules)",
        str(archive),
        str(ROOT / "examples/shapes/sample.jpg"),
        folder=tmp_path,
    )
    found, *heavy = asked.split()
    assert int(found) > 0
    assert heavy == ["False", "False"]
