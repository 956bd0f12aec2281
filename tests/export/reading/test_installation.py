"""What an installation of detectron2 lacks is named with what to install, wherever it shows."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from importlib import metadata
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

import pytest

from d2serve.export.doctor import examine
from d2serve.export.errors import ConfigError
from d2serve.export.reading.config import ConfigSource
from d2serve.export.reading.config_loading import load_config
from d2serve.export.reading.installation import (
    advice_for,
    advice_on_unregistered,
    compiled_operators_problem,
)
from d2serve.export.reading.weights import build_model
from tests.conftest import ROOT, config_of, source_of


def failure(name: str) -> ImportError:
    """The error of importing a module that is not there."""
    with pytest.raises(ImportError) as caught:
        __import__(name)
    return caught.value


@pytest.mark.parametrize(
    ("missing", "package"),
    [
        ("pkg_resources", "setuptools<81"),
        ("cv2", "opencv-python-headless"),
        ("timm", "timm"),
        ("hydra.core", "hydra-core"),
    ],
)
def test_a_missing_package_is_named(
    missing: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    top = missing.partition(".")[0]
    for name in [name for name in sys.modules if name.partition(".")[0] == top]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, top, None)
    advice = advice_for(failure(missing))
    assert advice is not None
    assert f"{top} is missing" in advice
    assert f"pip install '{package}'" in advice


@pytest.mark.parametrize(
    "error",
    [
        ModuleNotFoundError("No module named 'detectron2._C'", name="detectron2._C"),
        ImportError("cannot import name '_C' from 'detectron2' (x/__init__.py)", name="detectron2"),
    ],
)
def test_a_project_that_needs_compiled_operators_is_told_so(error: ImportError) -> None:
    advice = str(advice_for(error))
    assert "no compiled operators (detectron2._C)" in advice
    assert "not installed" not in advice


@pytest.mark.parametrize(
    ("name", "module"),
    [
        ("PointRendROIHeads", "detectron2.projects.point_rend"),
        ("No object named 'CoarseMaskHead' found in", "detectron2.projects.point_rend"),
        ("PanopticDeepLab", "detectron2.projects.panoptic_deeplab"),
        ("DeepLabV3PlusHead", "detectron2.projects.deeplab"),
        ("MyHeads", "my.module"),
    ],
)
@pytest.mark.parametrize("has_cv2", [True, False])
def test_a_part_of_a_project_of_detectron2s_is_told_from_ones_own(
    name: str, module: str, has_cv2: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: object() if has_cv2 else None)
    advice = advice_on_unregistered(name)
    assert f"--import {module}" in advice
    assert ("If it is yours" in advice) == (module == "my.module")
    assert ("opencv-python-headless" in advice) == (
        module == "detectron2.projects.point_rend" and not has_cv2
    )


def test_the_cause_of_an_error_counts() -> None:
    error = RuntimeError("detectron2 could not do it")
    error.__cause__ = ModuleNotFoundError("No module named 'timm'", name="timm")
    assert "pip install 'timm'" in str(advice_for(error))


def test_of_a_users_own_module_and_other_errors_nothing_is_said() -> None:
    assert advice_for(failure("no_such_module")) is None
    assert advice_for(ValueError("timm")) is None


class OfAnotherTorch(MetaPathFinder, Loader):
    """Stands for operators that were compiled for another torch; building such takes minutes."""

    def find_spec(
        self, name: str, _path: Sequence[str] | None, _target: ModuleType | None = None
    ) -> ModuleSpec | None:
        return ModuleSpec(name, self) if name == "detectron2._C" else None

    def create_module(self, _spec: ModuleSpec) -> ModuleType:
        raise ImportError("_C.cpython-311-x86_64-linux-gnu.so: undefined symbol: _ZN3c1011Symbol")

    def exec_module(self, _module: ModuleType) -> None:
        raise AssertionError("create_module raises")


@pytest.fixture
def of_another_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "detectron2._C", raising=False)
    monkeypatch.setattr(sys, "meta_path", [OfAnotherTorch(), *sys.meta_path])


@pytest.mark.usefixtures("of_another_torch")
def test_operators_compiled_for_another_torch_are_told_by_the_doctor() -> None:
    problem = compiled_operators_problem()
    assert problem is not None
    assert f"compiled for another torch than the installed {metadata.version('torch')}" in problem
    assert "--no-build-isolation" in problem
    assert problem in examine(ConfigSource(str(config_of("retinanet")))).notes


def test_of_operators_that_load_or_that_are_not_there_nothing_is_said() -> None:
    assert compiled_operators_problem() is None


def test_a_model_that_needs_timm_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "timm"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "timm", None)
    config = load_config(source_of("vitdet"))
    with pytest.raises(ConfigError, match=r"timm is missing.*pip install 'timm'") as caught:
        build_model(config)
    assert "--import" not in str(caught.value)


def test_a_config_that_needs_a_package_says_so(tmp_path: Path) -> None:
    """In a new process, since an import that has succeeded does not fail any more."""
    (tmp_path / "needs_timm.py").write_text("import timm")
    script = """
import sys
sys.modules["cv2"] = sys.modules["timm"] = None
from d2serve.export.errors import ConfigError
from d2serve.export.reading.config import ConfigSource
from d2serve.export.reading.config_loading import load_config
for source in (
    ConfigSource("needs_timm.py"),
    ConfigSource("needs_timm.py", (), ["detectron2.projects.point_rend"]),
):
    try:
        load_config(source)
    except ConfigError as error:
        print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    config, imported = done.stdout.splitlines()
    assert config.endswith("Install it: pip install 'timm'")
    assert imported.endswith("Install it: pip install 'opencv-python-headless'")


def test_a_command_says_what_is_missing() -> None:
    script = """
import sys
sys.modules["pkg_resources"] = None
sys.argv = ["d2serve", "doctor", "--config-file", "COCO-Detection/retinanet_R_50_FPN_1x.yaml"]
from d2serve.cli.app import main
main()
"""
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "pip install 'setuptools<81'" in done.stderr
    assert "Traceback" not in done.stderr
