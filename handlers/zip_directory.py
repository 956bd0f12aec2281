"""What a zip file says of its entries, looked at before anything is inflated or even listed.

An archive comes from somewhere else. One with millions of entries, or one that unpacks to a
thousand times its size, fills the memory or the disk of whoever only wanted to check it.
"""

from __future__ import annotations

import os
import stat
import struct
import zipfile
from collections import Counter
from pathlib import PurePosixPath
from typing import IO

MAX_ENTRIES = 100_000
"""An archive of ours has about a hundred."""
MAX_TIMES_ITS_SIZE = 100
"""Weights deflate by a tenth, text by ten times."""
_SMALL = 64 << 20
# Of the directory, a name included; an entry's name alone may have 65,535 bytes.
_MOST_BYTES_OF_AN_ENTRY = 1 << 10

_END = struct.Struct("<4s4H2LH")
_LOCATOR = struct.Struct("<4sLQL")
_END_64 = struct.Struct("<4sQ2H2L4Q")
_LONGEST_COMMENT = 65_535


def is_zip(file: IO[bytes]) -> bool:
    """Whether an open file is a zip file, damaged or not, by its first bytes."""
    file.seek(0)
    return file.read(4) in (b"PK\x03\x04", b"PK\x05\x06")


def too_many_entries(file: IO[bytes]) -> str | None:
    """Why the directory of an open zip file should not be read at all, or None where it may be."""
    entries, size = _announced(file)
    if entries > MAX_ENTRIES or size > MAX_ENTRIES * _MOST_BYTES_OF_AN_ENTRY:
        return (
            f"has {entries:,} entries in a directory of {size >> 20:,} MB, expected at most "
            f"{MAX_ENTRIES:,}"
        )
    return None


def traps(entries: list[zipfile.ZipInfo], archive_bytes: int) -> str | None:
    """What is wrong with the entries that an archive lists, or None where nothing is."""
    names = Counter(entry.filename for entry in entries)
    outside = [name for name in names if is_outside(name)]
    links = [each.filename for each in entries if stat.S_ISLNK(each.external_attr >> 16)]
    twice = sorted(name for name, count in names.items() if count > 1)
    for found, what in (
        (outside, "has entries outside itself"),
        (links, "has symbolic links"),
        (twice, "has several entries of one name"),
    ):
        if found:
            return f"{what} ({', '.join(found[:3])})"
    unpacked = sum(entry.file_size for entry in entries)
    if unpacked > max(_SMALL, MAX_TIMES_ITS_SIZE * archive_bytes):
        return (
            f"unpacks to {unpacked >> 20:,} MB, {unpacked // max(1, archive_bytes):,} times its "
            f"own size (expected at most {MAX_TIMES_ITS_SIZE} times)"
        )
    return None


def is_outside(name: str) -> bool:
    """Whether an entry of that name would be unpacked to elsewhere than the folder chosen for it,
    on any system."""
    path = PurePosixPath(name.replace("\\", "/"))
    if not path.parts:
        return True
    return path.is_absolute() or ".." in path.parts or ":" in path.parts[0]


def _announced(file: IO[bytes]) -> tuple[int, int]:
    """Entries and bytes of the directory, by the records at the file's end; (0, 0) without them.

    APPNOTE.TXT of the zip format, 4.3.14 to 4.3.16. Python's reader believes the record of large
    archives (zip64) where there is one.
    """
    length = file.seek(0, os.SEEK_END)
    file.seek(max(0, length - _END.size - _LONGEST_COMMENT))
    tail = file.read()
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or len(tail) - at < _END.size:
        return 0, 0
    _, _, _, _, entries, size, _, _ = _END.unpack_from(tail, at)
    end = length - len(tail) + at
    if end >= _LOCATOR.size + _END_64.size:
        file.seek(end - _LOCATOR.size - _END_64.size)
        large, locator = file.read(_END_64.size), file.read(_LOCATOR.size)
        if locator[:4] == b"PK\x06\x07" and large[:4] == b"PK\x06\x06":
            fields = _END_64.unpack(large)
            return max(entries, fields[7]), fields[8]
    return entries, size
