"""Tests run on what is edited: a copy that is older than the sources is refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests import installation
from tests.conftest import ROOT


@pytest.fixture
def copies(tmp_path: Path) -> Path:
    """A project whose rooms are copies of those that are installed, for now."""
    for room in installation.ROOMS:
        shutil.copytree(ROOT / room, tmp_path / room)
    return tmp_path


def test_a_copy_that_is_as_new_is_tested(copies: Path) -> None:
    installation.refuse_a_stale_copy(copies)


@pytest.mark.parametrize("change", ["edit", "new file", "removed file"])
def test_a_stale_copy_stops_the_run_and_says_what_to_do(change: str, copies: Path) -> None:
    file = copies / "handlers" / ("brand_new.py" if change == "new file" else "errors.py")
    if change == "removed file":
        file.unlink()
    else:
        file.write_text("# edited\n")
    told = rf"handlers/{file.name} is not what is installed.*make dev.*make test"
    with pytest.raises(pytest.exit.Exception, match=told):
        installation.refuse_a_stale_copy(copies)
