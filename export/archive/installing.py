"""Puts a finished archive into the model store: it is there whole, or not at all."""

from __future__ import annotations

import glob
import time
from contextlib import suppress
from pathlib import Path

from d2serve.client.whole_files import PARTIAL, copied_whole
from d2serve.export.errors import ArchiveError
from d2serve.export.naming import DEFAULT_VERSION, require_place

_ABANDONED_SECONDS = 3600


def install(archive: Path, store: Path, name: str, version: str = DEFAULT_VERSION) -> Path:
    """Put a finished archive into the model store, in one step that cannot be half done.

    Raises:
        ArchiveError: the store cannot be written, or has another archive of that file name.
    """
    target = require_place(store, name, version)
    try:
        store.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(store, name)
        copied_whole(archive, target, prefix=f".{name}.")
    except OSError as error:
        raise ArchiveError(
            f"{target} cannot be written ({error.strerror}). Expected a folder with room for "
            f"{archive.stat().st_size >> 20} MB that you may write; an older archive is untouched."
        ) from error
    return target


def _remove_abandoned(store: Path, name: str) -> None:
    """What exports that were killed while they wrote have left; one that is writing touches its
    own all the time."""
    for partial in store.glob(f".{glob.escape(name)}.*{PARTIAL}"):
        with suppress(OSError):  # another export may do the same
            if time.time() - partial.stat().st_mtime > _ABANDONED_SECONDS:
                partial.unlink()
