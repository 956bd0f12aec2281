"""The files of a folder or of a pattern, sorted, here or at an address."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

from d2serve.server.images.stored import file_system, is_address

SUFFIXES = frozenset(
    (
        *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".dib", ".webp"),
        *(".tif", ".tiff", ".gif", ".avif", ".mpo"),
    )
)
"""Of files that are answered."""
SHARD_SUFFIXES = (".parquet", ".tar")

RESULTS_FILE = "_d2serve_batch.json"
"""A folder that has it holds answers of ours: they are no images, and lie below them often."""


def is_image(name: str) -> bool:
    """Whether a file of this name is taken for an image; a hidden one is not."""
    return not name.startswith(".") and PurePosixPath(name).suffix.lower() in SUFFIXES


def in_folder(folder: str) -> list[str] | None:
    """Images and shards in a folder and below it, by name; None where it is no folder.

    Hidden files and folders are left out, and those of ``RESULTS_FILE``.

    Raises:
        OSError: it cannot be listed.
    """
    if not is_address(folder):
        return sorted(_wanted(_below(Path(folder)))) if Path(folder).is_dir() else None
    files, path = file_system(folder)
    if not files.isdir(path):
        return None
    start = path.rstrip("/")
    found = [each[len(start) :].lstrip("/") for each in files.find(path)]
    results = {name[: -len(RESULTS_FILE)] for name in found if name.endswith(RESULTS_FILE)}
    kept = (
        name
        for name in found
        if not any(part.startswith(".") for part in name.split("/"))
        and not any(name.startswith(each) for each in results)
    )
    return sorted(files.unstrip_protocol(f"{start}/{name}") for name in _wanted(kept))


def matching(pattern: str) -> list[str]:
    """Images and shards that a pattern with ``*``, ``?``, ``[...]`` or ``**`` matches, by name.

    Raises:
        OSError: a folder cannot be listed.
    """
    if not is_address(pattern):
        # Path.glob takes no absolute pattern.
        matched = glob.iglob(pattern, recursive=True)  # noqa: PTH207
        found: Iterable[str] = (each for each in matched if Path(each).is_file())
    else:
        files, path = file_system(pattern)
        found = map(files.unstrip_protocol, files.glob(path))
    return sorted(_wanted(found))


def is_pattern(where: str) -> bool:
    """Whether it has a character of a pattern."""
    return any(character in where for character in "*?[")


def _below(folder: Path) -> Iterator[str]:
    seen = set()  # links may lead back
    for parent, folders, names in os.walk(folder, followlinks=True):
        status = Path(parent).stat()
        if RESULTS_FILE in names or (status.st_dev, status.st_ino) in seen:
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        folders[:] = sorted(each for each in folders if not each.startswith("."))
        yield from (str(Path(parent, name)) for name in names)


def _wanted(names: Iterable[str]) -> Iterator[str]:
    for each in names:
        name = PurePosixPath(each.replace(os.sep, "/")).name
        if is_image(name) or (not name.startswith(".") and name.lower().endswith(SHARD_SUFFIXES)):
            yield each
