"""Writes a folder as a .mar whose bytes depend on the folder's contents alone.

Two exports of the same inputs then give the same file, which whoever keeps a list of digests can
check. Time, order and permissions of the entries are the same for all; what else tells one run from
another stands in the manifest.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
import time
import zipfile
from pathlib import Path

from d2serve.export.errors import ArchiveError

# The first second that a zip file can name.
_EARLIEST = 315_532_800
_MANIFEST = Path("MAR-INF", "MANIFEST.json")
_MODE = stat.S_IFREG | 0o644


def pack(folder: Path, target: Path) -> Path:
    """Write a folder's files into a .mar, uncompressed, and name the time of SOURCE_DATE_EPOCH.

    Deflated weights would be 8 % smaller, and every load of them would wait.

    Returns:
        The target.

    Raises:
        ArchiveError: SOURCE_DATE_EPOCH is no number of seconds.
    """
    when = time.gmtime(_epoch())
    _name_time(folder / _MANIFEST, when)
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    with zipfile.ZipFile(target, "w") as archive:
        for file in files:
            entry = zipfile.ZipInfo(file.relative_to(folder).as_posix(), when[:6])
            entry.create_system = 3  # Unix, wherever it is written
            entry.external_attr = _MODE << 16
            entry.file_size = file.stat().st_size
            with file.open("rb") as source, archive.open(entry, "w") as written:
                shutil.copyfileobj(source, written, 1 << 20)
    return target


def _name_time(manifest: Path, when: time.struct_time) -> None:
    """torch-model-archiver names the moment that it ran."""
    content = json.loads(manifest.read_text(encoding="utf-8"))
    content["createdOn"] = time.strftime("%d/%m/%Y %H:%M:%S", when)
    manifest.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _epoch() -> int:
    """SOURCE_DATE_EPOCH (reproducible-builds.org/specs/source-date-epoch), or 1980."""
    named = os.environ.get("SOURCE_DATE_EPOCH", "")
    if not named:
        return _EARLIEST
    if not named.isdecimal():
        raise ArchiveError(
            f"SOURCE_DATE_EPOCH is {named!r}, expected whole seconds since 1970. Correct the "
            "variable, or unset it for the date that every export has."
        )
    return max(_EARLIEST, int(named))
