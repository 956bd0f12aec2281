"""Files and folders that are there whole or not at all, whatever ends who writes them."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

PARTIAL = ".partial"
"""How the name of a file ends that is being written."""

_CHUNK_BYTES = 1 << 20
_READABLE = 0o644


@contextlib.contextmanager
def written_whole(
    path: Path, *, prefix: str | None = None, mode: int = _READABLE
) -> Iterator[BinaryIO]:
    """A new file that takes the place of ``path``, in one step, when the block ends well.

    Args:
        path: in a folder that is there.
        prefix: of the hidden name that it has until then; None makes one of ``path``'s.
        mode: its permissions.

    Raises:
        OSError: it cannot be written; what was there is untouched.
    """
    # In the same folder: only within one file system is a rename a single step.
    handle, partial = tempfile.mkstemp(
        prefix=prefix or f".{path.name}.", suffix=PARTIAL, dir=path.parent
    )
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        Path(partial).chmod(mode)
        Path(partial).replace(path)
    except BaseException:
        Path(partial).unlink(missing_ok=True)
        raise
    with contextlib.suppress(OSError):  # some systems cannot; what was there before is then back
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def copied_whole(source: Path, path: Path, *, prefix: str | None = None) -> None:
    """Copy a file to ``path``, as ``written_whole`` does it; raises OSError as that does."""
    with source.open("rb") as read, written_whole(path, prefix=prefix) as file:
        shutil.copyfileobj(read, file, _CHUNK_BYTES)


@contextlib.contextmanager
def made_whole(folder: Path, within: Path) -> Iterator[Path]:
    """A folder to fill, which becomes ``folder``, in one step, when the block ends well.

    Args:
        folder: below ``within``, and not there yet.
        within: in whose file system it is made.

    Raises:
        OSError: it cannot be written; nothing is left.
    """
    within.mkdir(parents=True, exist_ok=True)
    # In the same file system: only there is a rename a single step.
    with tempfile.TemporaryDirectory(prefix=".d2serve-", dir=within) as private:
        made = Path(private, "made")
        made.mkdir()
        yield made
        folder.parent.mkdir(parents=True, exist_ok=True)
        made.rename(folder)
