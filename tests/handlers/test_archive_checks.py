"""What is wrong with an archive is said before anything of it is loaded, and soon."""

from __future__ import annotations

import io
import struct
import time
import zipfile
from pathlib import Path

import pytest

from d2serve.handlers import archive_checks, zip_directory
from d2serve.handlers.archive_checks import check_archive
from d2serve.handlers.errors import ArchiveRefused
from d2serve.handlers.zip_directory import MAX_ENTRIES

SECONDS = 20.0
"""On a machine that is busy; quadratic checks took minutes."""


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    file = tmp_path / "model.mar"
    with zipfile.ZipFile(file, "w") as made:
        made.writestr("weights.bin", bytes(1000))
    return file


def test_as_many_entries_as_a_zip_file_may_have(tmp_path: Path) -> None:
    file = tmp_path / "many.mar"
    with zipfile.ZipFile(file, "w") as made:
        for number in range(65_000):
            made.writestr(f"files/{number}", b"x")
    begin = time.monotonic()
    assert check_archive(file) == 65_000
    assert time.monotonic() - begin < SECONDS


def end_of(entries: int, size: int, offset: int) -> bytes:
    """The records at the end of a large zip file (zip64)."""
    large = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, entries, entries, size, offset)
    locator = struct.pack("<4sLQL", b"PK\6\7", 0, offset + size, 1)
    return large + locator + struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 1, 1, 46, offset, 0)


@pytest.mark.parametrize("size", [46 * 10_000_000, 46])
def test_a_directory_of_millions_of_entries_is_not_even_read(
    size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "millions.mar"
    file.write_bytes(b"PK\3\4" + end_of(10_000_000, size, 4))
    monkeypatch.delattr(zipfile, "ZipFile")  # not to be asked for its list
    with pytest.raises(
        ArchiveRefused, match=f"10,000,000 entries .*at most {MAX_ENTRIES:,}, which"
    ):
        check_archive(file)


def test_a_bomb_is_refused_before_it_is_inflated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "bomb.mar"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as made:
        for number in range(4):
            made.writestr(f"{number}.bin", bytes(1 << 26))
    monkeypatch.setattr(zipfile.ZipFile, "open", None)  # not to be asked for any bytes
    with pytest.raises(
        ArchiveRefused, match=r"unpacks to 256 MB, [0-9,]+ times its own size .*to harm"
    ):
        check_archive(file)


def test_a_spec_larger_than_any_is_refused_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "large.mar"
    with zipfile.ZipFile(file, "w") as made:
        made.writestr("model_spec.json", bytes(2000))
    monkeypatch.setattr(archive_checks, "_MOST_BYTES_OF_A_SPEC", 1999)
    with pytest.raises(
        ArchiveRefused, match=r"a model_spec.json of 0 MB, which no exporter writes"
    ):
        check_archive(file)


@pytest.mark.parametrize("name", ["../out.py", "/etc/passwd", "a/../../b", "C:/x", "..\\x"])
def test_entries_outside(archive: Path, name: str) -> None:
    with zipfile.ZipFile(archive, "a") as made:
        made.writestr(name, "")
    with pytest.raises(ArchiveRefused, match="entries outside itself"):
        check_archive(archive)


def test_links_and_entries_of_one_name(archive: Path) -> None:
    doubled = archive.with_name("doubled.mar")
    doubled.write_bytes(archive.read_bytes())
    with zipfile.ZipFile(archive, "a") as made:
        entry = zipfile.ZipInfo("passwords")
        entry.external_attr = 0o120777 << 16
        made.writestr(entry, "/etc/passwd")
    with pytest.raises(ArchiveRefused, match=r"symbolic links \(passwords\)"):
        check_archive(archive)
    with zipfile.ZipFile(doubled, "a") as made, pytest.warns(UserWarning, match="Duplicate"):
        made.writestr("weights.bin", "")
    with pytest.raises(ArchiveRefused, match=r"several entries of one name \(weights.bin\)"):
        check_archive(doubled)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", r"is no archive: it begins with b''"),
        (b"\x89PNG\r\n\x1a\n and more", r"is no archive: it begins with b'\\x89PNG"),
        (b"PK\x03\x04 cut short", "is truncated or damaged"),
    ],
)
def test_what_is_no_archive(content: bytes, said: str, tmp_path: Path) -> None:
    file = tmp_path / "x.mar"
    file.write_bytes(content)
    with pytest.raises(ArchiveRefused, match=f"x.mar {said}"):
        check_archive(file)


def test_what_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ArchiveRefused, match=r"There is no .*none.mar"):
        check_archive(tmp_path / "none.mar")
    with pytest.raises(ArchiveRefused, match=r"cannot be read \(Is a directory\)"):
        check_archive(tmp_path)


def test_a_comment_at_the_end_hides_no_entries() -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as made:
        made.comment = b"a comment" * 100
        for number in range(5):
            made.writestr(str(number), "")
    assert zip_directory._announced(buffer)[0] == 5
