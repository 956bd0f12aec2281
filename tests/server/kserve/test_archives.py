"""Which archives a command line names, and under which names."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from d2serve.client.errors import ArchiveRefused, ServerStartError
from d2serve.server.kserve.archives import find_archives
from d2serve.server.kserve.serving import HELP, Settings
from tests.cli.small_archives import small_archive


@pytest.fixture
def store(tmp_path: Path) -> Path:
    (tmp_path / "empty").mkdir()
    for name, version in (("a", "1.0"), ("b", "1.0"), ("a", "2.0")):
        small_archive(tmp_path / f"{name}-{version}.mar", name, version=version)
    return tmp_path


def served(store: Path, *arguments: str, name: str | None = None) -> list[str]:
    found = find_archives([each.replace("@", f"{store}/") for each in arguments], name)
    assert all(each.path.is_file() for each in found)
    return [f"{each.name} {each.version}" for each in found]


def test_files_folders_and_names(store: Path) -> None:
    assert served(store, "@a-2.0.mar", "@a-1.0.mar") == ["a 2.0", "a 1.0"]
    assert served(store, "@") == ["a 1.0", "a 2.0", "b 1.0"]
    assert served(store, "x=@a-1.0.mar", "@b-1.0.mar") == ["x 1.0", "b 1.0"]
    assert served(store, "@a-1.0.mar", "@a-1.0.mar") == ["a 1.0"]
    assert served(store, "@a-1.0.mar", "@a-2.0.mar", name="y") == ["y 1.0", "y 2.0"]


def test_what_cannot_be_served(store: Path) -> None:
    with pytest.raises(ServerStartError, match="one name y for several models"):
        served(store, "@", name="y")
    with pytest.raises(ServerStartError, match=r"are both version 1\.0 of x"):
        served(store, "x=@a-1.0.mar", "x=@b-1.0.mar")
    with pytest.raises(ServerStartError, match=r"has no \.mar in it"):
        served(store, "@empty")
    with pytest.raises(ArchiveRefused, match="there is no such file"):
        served(store, "@nothing.mar")


def test_each_setting_is_explained() -> None:
    assert set(HELP) == {"models", "name", *(each.name for each in fields(Settings))}
