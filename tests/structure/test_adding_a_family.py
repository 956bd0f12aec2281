"""CONTRIBUTING's list "Add a family" is complete, and is true of every family that is there."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from examples.shapes.recipes import MODEL_NAMES, MODELS_FOLDER, ROTATED_MODEL
from tests.conftest import ROOT
from tests.ways import FAMILIES, IN_THE_GATE, MODELS

EXAMPLES = (*MODEL_NAMES, ROTATED_MODEL)
SHIPPED = ("handlers", "export", "client", "server", "cli")


def listed() -> list[str]:
    """The paths that CONTRIBUTING names for a family, as they are written."""
    text = (ROOT / "CONTRIBUTING.md").read_text()
    section = text.split("## Add a family\n")[1].split("\n## ")[0]
    return [name for name in re.findall(r"`([\w./]+)`", section) if "/" in name]


def test_every_place_is_there() -> None:
    assert len(listed()) >= 12
    missing = [place for place in listed() if not (ROOT / place).exists()]
    assert missing == []


def names_in(source: Path) -> Iterator[str]:
    """Every name that a module's code uses; what its comments and texts say is free."""
    for node in ast.walk(ast.parse(source.read_text())):
        if isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.alias):
            yield node.name.rpartition(".")[2]


def classes_of_models() -> set[str]:
    """detectron2's classes by which a family is known."""
    tree = ast.parse((ROOT / "export" / "reading" / "families.py").read_text())
    return {
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        and (node.module or "").startswith("detectron2.modeling")
        for alias in node.names
    }


def test_no_other_source_knows_a_class_of_a_family() -> None:
    classes = classes_of_models()
    assert {"GeneralizedRCNN", "RetinaNet", "FCOS", "PanopticFPN", "RRPN"} <= classes
    places = [ROOT / place for place in listed()]
    knowing = {
        source
        for room in SHIPPED
        for source in (ROOT / room).rglob("*.py")
        if not classes.isdisjoint(names_in(source))
    }
    beside = {
        str(source.relative_to(ROOT))
        for source in knowing
        if not any(source == place or place in source.parents for place in places)
    }
    assert beside == set()


def test_every_example_is_in_the_lists_of_the_tests() -> None:
    assert {*MODELS, *FAMILIES} == set(IN_THE_GATE) == set(EXAMPLES)


NAMED_IN: dict[str, set[str]] = {
    "examples/shapes/recipes.py": set(),
    "examples/shapes/models/results.json": set(),
    "examples/shapes/README.md": set(),
    "tests/ways.py": set(),
    "tests/export/reading/test_families.py": set(),
    # tests/parity/test_average_precision.py has the first; no evaluator scores rotated archives.
    "tests/parity/test_family_scores.py": {*MODELS, ROTATED_MODEL},
    "docs/formats.md": set(),
}
"""Places of the list that name every example, and those that they need not name."""


@pytest.mark.parametrize("place", NAMED_IN)
def test_every_example_is_named_where_the_list_says(place: str) -> None:
    assert place in listed()
    text = (ROOT / place).read_text()
    missing = {name for name in EXAMPLES if not re.search(rf"\b{name}\b", text)}
    assert missing - NAMED_IN[place] == set()


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_example_has_its_config_and_its_weights(name: str) -> None:
    configs = [MODELS_FOLDER / f"{name}{kind}" for kind in (".yaml", ".py")]
    assert sum(config.is_file() for config in configs) == 1
    assert (MODELS_FOLDER / f"{name}.pth").is_file()
