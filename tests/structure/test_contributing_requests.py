"""CONTRIBUTING names each place where a request option, an output field or an adapter stands."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from d2serve.handlers.replies.fields import FIELDS
from d2serve.handlers.requests.options import NAMES

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "CONTRIBUTING.md").read_text()


def places(title: str) -> set[str]:
    """The files and folders that a section names."""
    section = PAGE.split(f"## {title}\n")[1].split("\n## ")[0]
    found = set(re.findall(r"`([\w/]+/[\w.]*)`", section))
    assert found
    return found


def sources(*folders: str) -> dict[str, str]:
    files = [file for each in folders for file in (ROOT / each).rglob("*.py")]
    return {file.relative_to(ROOT).as_posix(): file.read_text() for file in files}


def names_all(text: str, names: list[str]) -> bool:
    return all(re.search(rf"\b{name}\b", text) for name in names)


@pytest.mark.parametrize(
    "title", ["Add a request option", "Add an output field", "Add a server adapter"]
)
def test_what_a_section_names_is_there(title: str) -> None:
    for place in places(title):
        assert (ROOT / place).exists(), place


def test_every_place_that_must_know_all_options_is_named() -> None:
    texts = {
        **sources("handlers", "client", "cli"),
        "docs/requests.md": (ROOT / "docs/requests.md").read_text(),
        "tests/handlers/test_service.py": (ROOT / "tests/handlers/test_service.py").read_text(),
    }
    must_know = {name for name, text in texts.items() if names_all(text, list(NAMES))}
    named = places("Add a request option")
    assert must_know <= named
    # The others do what a single option says.
    for place in named - must_know:
        words = [*NAMES, "score", "options"]
        assert any(re.search(rf"\b{name}\b", texts[place]) for name in words), place


def test_every_place_that_knows_an_output_field_is_named() -> None:
    """By the trail of one field: ``keypoints``, which is of some models only."""
    (field,) = (each for each in FIELDS if each.name == "instances[].keypoints")
    words = rf"\b(keypoints|{'|'.join(field.sources)})\b"
    trail = {
        name
        for name, text in sources("handlers", "client/results").items()
        if re.search(words, text)
    }
    own = {
        "handlers/outputs/keypoints.py",  # how this one is computed
        "handlers/netdef/operators/detection.py",  # the operator of it
    }
    assert trail - own == {
        place for place in places("Add an output field") if not place.startswith("docs/")
    }


def test_an_adapter_imports_what_is_named() -> None:
    adapter = ROOT / "tests/handlers/http_adapter.py"
    assert "tests/handlers/http_adapter.py" in places("Add a server adapter")
    assert len(_code_lines(adapter)) <= 45
    imported = {
        f"{node.module.replace('d2serve.', '').replace('.', '/')}.py"
        for node in ast.walk(ast.parse(adapter.read_text()))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("d2serve.")
        if node.module is not None
    }
    assert imported <= places("Add a server adapter")


def _code_lines(file: Path) -> list[str]:
    lines = file.read_text().splitlines()
    return [line for line in lines if line.strip() and not line.startswith(("import", "from"))]
