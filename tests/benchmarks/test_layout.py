"""Each question of benchmarks/ has a folder, a make target and a row in the README."""

from __future__ import annotations

import importlib
import re

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
    for path in sorted(FOLDER.rglob("*.py")):
        importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))


def test_modules_lie_in_folders_that_the_readme_names() -> None:
    assert [path.name for path in FOLDER.glob("*.py")] == ["__init__.py"]
    readme = (FOLDER / "README.md").read_text()
    for folder in {path.parent for path in FOLDER.glob("*/*.py")}:
        assert f"{folder.name}/" in readme, folder.name
