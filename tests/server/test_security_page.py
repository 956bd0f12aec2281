"""docs/security.md and pyproject.toml agree on which versions are old enough to be unsafe."""

from __future__ import annotations

import re

import pytest
import tomllib
from packaging.requirements import Requirement
from packaging.version import Version

from d2serve.export.reading.checkpoints.unpickling import _SAFE_FROM
from tests.conftest import ROOT

_ROW = re.compile(
    r"^\| (Pillow|torch|orjson) \|.*?\| (?:\S+ by .*?, )?([\d.]+)(?: by [^|]*)? \|", re.M
)


CLOSED = _ROW.findall((ROOT / "docs" / "security.md").read_text())


@pytest.mark.parametrize("name", ["Pillow", "orjson"])
@pytest.mark.parametrize("extra", ["serve", "client"])
def test_no_extra_takes_what_a_row_says_is_closed_later(name: str, extra: str) -> None:
    closed = max(Version(version) for each, version in CLOSED if each == name)
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wishes = map(Requirement, extras["optional-dependencies"][extra])
    (wish,) = (
        each
        for each in wishes
        if each.name == name
        and (each.marker is None or each.marker.evaluate({"python_version": "3.11"}))
    )
    (least,) = (each.version for each in wish.specifier if each.operator == ">=")
    assert Version(least) >= closed


def test_the_torch_that_may_read_checkpoints_is_the_one_that_a_row_names() -> None:
    """It is left to the user: a detectron2 is compiled for one."""
    told = min(Version(version) for each, version in CLOSED if each == "torch")
    assert told.release[:2] == _SAFE_FROM
