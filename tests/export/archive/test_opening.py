"""A .mar is checked before it is extracted, and a folder is taken as it is."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from d2serve.export.archive.opening import opened
from d2serve.export.errors import ArchiveError


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is no archive"),
        (b"a photo", r"is no archive: it begins with b'a photo'"),
        (b"PK\x03\x04 cut short", "is truncated or damaged"),
    ],
)
def test_a_damaged_archive_is_named(content: bytes, said: str, tmp_path: Path) -> None:
    file = tmp_path / "x.mar"
    file.write_bytes(content)
    with pytest.raises(ArchiveError, match=rf"x\.mar {said}"), opened(file):
        pass


def test_entries_outside_the_archive_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "x.mar"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("../outside.py", "")
    with pytest.raises(ArchiveError, match="outside itself"), opened(file):
        pass
    assert list(tmp_path.iterdir()) == [file]


def test_a_folder_is_told_from_a_file_by_looking(tmp_path: Path) -> None:
    file, folder = tmp_path / "archive", tmp_path / "folder.mar"
    folder.mkdir()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a.txt", "text")
    with opened(file) as contents:
        assert (contents / "a.txt").read_text() == "text"
    assert not contents.exists()
    with opened(folder) as contents:
        assert contents == folder
    assert folder.is_dir()
