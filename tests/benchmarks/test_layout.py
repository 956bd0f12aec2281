"""Each question of benchmarks/ has a folder, a make target and a row in the README."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from tests.conftest import ROOT

FOLDER = ROOT / "benchmarks"
QUESTIONS = sorted(path.parent.name for path in FOLDER.glob("*/__main__.py"))
TARGETS = dict(
    re.findall(
        r"^([\w-]+):.*\n\t.*(?:\$\(PY\)|/bin/python) -W ignore (?:\\\n\t  )?-m benchmarks\.(\w+)",
        (ROOT / "Makefile").read_text(),
        re.MULTILINE,
    )
)


@pytest.mark.parametrize("question", QUESTIONS)
def test_a_question_has_a_target_and_a_row(question: str) -> None:
    targets = [target for target, module in TARGETS.items() if module == question]
    assert targets
    for target in targets:
        (row,) = [
            line
            for line in (FOLDER / "README.md").read_text().splitlines()
            if line.startswith("|") and f"`make {target}`" in line
        ]
        assert f"]({question})" in row


def test_no_target_runs_what_is_not_there() -> None:
    assert set(TARGETS.values()) == set(QUESTIONS)
    assert len(QUESTIONS) >= 6


def test_every_module_can_be_imported() -> None:
    """In a process of its own: what trains models changes detectron2 when it is imported."""
    names = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path in sorted(FOLDER.rglob("*.py"))
    ]
    code = f"import importlib\nfor name in {names!r}:\n    importlib.import_module(name)"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_modules_lie_in_folders_that_the_readme_names() -> None:
    assert [path.name for path in FOLDER.glob("*.py")] == ["__init__.py"]
    readme = (FOLDER / "README.md").read_text()
    for folder in {path.parent for path in FOLDER.glob("*/*.py")}:
        assert f"{folder.name}/" in readme, folder.name
