"""docs/security.md and pyproject.toml agree on which versions are old enough to be unsafe."""

from __future__ import annotations

import re

import tomllib
from packaging.requirements import Requirement
from packaging.version import Version

from tests.conftest import ROOT

_ROW = re.compile(
    r"^\| (Pillow|torch|orjson) \|.*?\| (?:\S+ by .*?, )?([\d.]+)(?: by [^|]*)? \|", re.M
)


def test_no_extra_takes_what_a_row_says_is_closed_later() -> None:
    page = (ROOT / "docs" / "security.md").read_text()
    rows = _ROW.findall(page)
    closed = {name: max(Version(v) for n, v in rows if n == name) for name, _ in rows}
    assert closed.keys() == {"Pillow", "torch", "orjson"}
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for extra in ("serve", "client", "torchscript"):
        for text in extras["optional-dependencies"][extra]:
            wish = Requirement(text)
            newest = wish.marker is None or wish.marker.evaluate({"python_version": "3.11"})
            if wish.name in closed and newest:
                (least,) = (each.version for each in wish.specifier if each.operator == ">=")
                assert Version(least) >= closed[wish.name], text
