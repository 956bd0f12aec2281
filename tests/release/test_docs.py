"""The site and its lists have every page and every public name. `make docs` finds broken links."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import d2serve.client
from tests.conftest import ROOT

DOCS = ROOT / "docs"
GENERATED = {"docs/reference/cli.md"}


def _contents() -> set[str]:
    """What the tables of contents of the first page name, as paths from the root."""
    index = (DOCS / "index.md").read_text()
    named = set()
    for block in re.findall(r"^```\{toctree\}\n(.*?)^```", index, re.MULTILINE | re.DOTALL):
        for line in block.splitlines():
            path = re.sub(r".*<(.*)>", r"\1", line.strip())
            if path and not path.startswith(":"):
                named |= {each.resolve() for each in DOCS.glob(f"{path}.md")}
    return {str(path.relative_to(ROOT)) for path in named}


def test_the_contents_name_every_page() -> None:
    pages = {str(path.relative_to(ROOT)) for path in DOCS.rglob("*.md")}
    in_the_root = {path.name for path in ROOT.glob("*.md")}
    assert (pages | in_the_root) - GENERATED - {"docs/index.md"} <= _contents()


def test_the_list_of_decisions_has_every_decision_under_its_title() -> None:
    listed = (DOCS / "decisions" / "README.md").read_text()
    for page in DOCS.glob("decisions/0*.md"):
        number, title = page.read_text().splitlines()[0].removeprefix("# ").split(". ", 1)
        assert f"| {number} | [{title}]({page.name}) |" in listed


@pytest.mark.parametrize("name", d2serve.client.__all__)
def test_the_reference_has_every_public_name_of_the_client(name: str) -> None:
    reference = (DOCS / "reference" / "python.md").read_text()
    assert re.search(rf"auto\w+:: {name}$", reference, re.MULTILINE)


_NAMED = re.compile(
    r"`((?:handlers|export|client|server|cli|tests|benchmarks|examples|docs|environment|kernels)"
    r"/[\w./-]*)(?:::\w+)?`"
)


PAGES = sorted(DOCS.rglob("*.md")) + sorted(ROOT.glob("*.md"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_paths_that_a_page_names_are_there(page: Path) -> None:
    named = {match.group(1) for match in _NAMED.finditer(page.read_text())}
    named -= {"handlers/x.py"}  # stands for any module
    assert {path for path in named if not (ROOT / path).exists()} == set()
