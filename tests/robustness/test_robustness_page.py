"""docs/robustness.md names tests that exist, and leaves no file of them out."""

from __future__ import annotations

import ast
import re
from collections import defaultdict

from tests.conftest import ROOT


def functions_in(file: str) -> set[str]:
    return {
        each.name
        for each in ast.walk(ast.parse((ROOT / file).read_text()))
        if isinstance(each, ast.FunctionDef) and each.name.startswith("test_")
    }


def test_the_page_names_tests_that_exist_and_every_file_that_starts_a_server() -> None:
    """A way to die that is tested and not told is of no use to who reads the page."""
    page = (ROOT / "docs" / "robustness.md").read_text()
    named = defaultdict(set)
    for file, name in re.findall(r"`(tests/[\w/]+\.py)::(?:\w+::)?(\w+)`", page):
        named[file].add(name)
    assert len(named) > 10
    for file, names in named.items():
        assert names - functions_in(file) == set(), file
    for folder in ("robustness", "faults"):
        for path in sorted((ROOT / "tests" / folder).glob("test_*.py")):
            if "\npytestmark = pytest.mark.server" in path.read_text():
                assert f"tests/{folder}/{path.name}" in named
