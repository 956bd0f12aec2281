"""Which archives a server gets, under which names and versions, and in which order."""

from __future__ import annotations

from pathlib import Path

import pytest

from d2serve.client.errors import ArchiveRefused, ServerStartError
from d2serve.server.archives.model_archives import archives_of, check_models, resolve_models
from tests.cli.small_archives import small_archive


def test_a_whole_store_is_served_with_the_lowest_version_first(tmp_path: Path) -> None:
    for version in ("10.0", "2.0", "1.0"):
        small_archive(tmp_path / f"shapes-{version}.mar", version=version)
    small_archive(tmp_path / "z.mar", name="animals")
    assert archives_of(tmp_path) == ["z.mar", "shapes-1.0.mar", "shapes-2.0.mar", "shapes-10.0.mar"]


def test_versions_keep_the_order_in_which_they_are_given(tmp_path: Path) -> None:
    files = [
        small_archive(tmp_path / "two.mar", version="2.0"),
        small_archive(tmp_path / "one.mar", version="1.0"),
    ]
    models = check_models(resolve_models([*files, files[0]], None))
    assert [(model.name, model.version) for model in models] == [
        ("shapes", "2.0"),
        ("shapes", "1.0"),
    ]
    assert [model.argument for model in models] == ["shapes=two.mar", "shapes=one.mar"]


def test_two_archives_of_one_version_are_refused_unless_one_is_renamed(tmp_path: Path) -> None:
    files = [small_archive(tmp_path / name, version="2.0") for name in ("a.mar", "b.mar")]
    message = r"a\.mar and b\.mar are both version 2\.0 of shapes.*NAME=b\.mar"
    with pytest.raises(ServerStartError, match=message):
        check_models(resolve_models(files, None))
    named = check_models(resolve_models({"shapes": files[0], "other": files[1]}, None))
    assert [model.name for model in named] == ["shapes", "other"]


def test_a_damaged_archive_of_the_store_is_named(tmp_path: Path) -> None:
    small_archive(tmp_path / "shapes.mar")
    (tmp_path / "half.mar").write_bytes(b"PK\x03\x04")
    with pytest.raises(ArchiveRefused, match=r"half\.mar is truncated or damaged"):
        archives_of(tmp_path)
