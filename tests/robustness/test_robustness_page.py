"""docs/robustness.md names tests that exist, and leaves no file of them out."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NAMED = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", (ROOT / "docs" / "robustness.md").read_text())


def functions_in(path: Path) -> set[str]:
    return {
        each.name
        for each in ast.parse(path.read_text()).body
        if isinstance(each, ast.FunctionDef) and each.name.startswith("test_")
    }


@pytest.mark.parametrize(("file", "name"), NAMED)
def test_what_is_named_exists(file: str, name: str) -> None:
    assert name in functions_in(ROOT / file)


@pytest.mark.parametrize("folder", ["robustness", "faults"])
def test_what_starts_a_server_is_named(folder: str) -> None:
    """A way to die that is tested and not told is of no use to who reads the page."""
    for path in sorted((ROOT / "tests" / folder).glob("test_*.py")):
        file = f"tests/{folder}/{path.name}"
        if "\npytestmark = pytest.mark.server" in path.read_text():
            assert {name for each, name in NAMED if each == file}, file
