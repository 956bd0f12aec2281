"""The private directory of each server, and the removal of those whose server was killed.

A server that is killed (kill -9, out of memory) cannot tidy up after itself, so the next start
does: otherwise each kill would leave an unpacked copy of every model in the temporary directory.

Each server's directory is locked by the process that owns it. The system drops the lock when that
process ends in whatever way, so a directory whose lock can be had belongs to nobody any more. A
pid file would not do: its number may be another process's by now.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from d2serve.client.errors import ServerStartError
from d2serve.server.torchserve.leftovers import end_leftovers

PREFIX = "d2serve-run-"
_OWNER = "owner.lock"
# Unix sockets: 108 bytes on Linux, 104 on macOS, for "<TEMP>/.ts.sock.<number>".
_LONGEST_TEMP = 85
_POLL_SECONDS = 0.05


@dataclass(frozen=True)
class ServerDirectory:
    """A private directory (mode 0700) with a ``tmp`` in it, locked by this process."""

    path: Path
    _lock: IO[bytes]

    def remove(self) -> None:
        """Delete it; a worker's last write may race with the first attempt."""
        _remove(self.path)
        self._lock.close()


def make_directory() -> ServerDirectory:
    """A new directory, short enough for the sockets of TorchServe's workers.

    Raises:
        ServerStartError: the temporary directory cannot be written, or its path is too long.
    """
    try:
        # Under another name until it is locked: nobody must take it for a dead server's.
        made = Path(tempfile.mkdtemp(prefix=".d2serve-")).resolve()
    except OSError as error:
        raise unwritable_error(tempfile.tempdir or "The temporary directory", error) from error
    path = made.with_name(PREFIX + made.name.rpartition("-")[2])
    if len(os.fsencode(path / "tmp")) > _LONGEST_TEMP:
        made.rmdir()
        raise ServerStartError(
            f"The temporary directory {made.parent} has too long a path for the sockets of "
            f"TorchServe's workers. Set TMPDIR to a shorter one, such as /tmp."
        )
    try:
        lock = (made / _OWNER).open("wb")
        _lock(lock)
        (made / "tmp").mkdir()
        made.rename(path)
    except OSError as error:
        _remove(made)
        raise unwritable_error(made.parent, error) from error
    return ServerDirectory(path, lock)


def unwritable_error(where: str | Path, error: OSError) -> ServerStartError:
    """The error for a server's directory that cannot be written."""
    return ServerStartError(
        f"{where} cannot be written ({error.strerror or error}). TorchServe unpacks its models "
        "and writes its log there: free some space, or set TMPDIR to a folder with room that you "
        "may write."
    )


def sweep() -> list[Path]:
    """Delete the directories of this user's servers that were killed, and end what is left of
    them; returns the directories."""
    swept: list[Path] = []
    try:
        left = sorted(Path(tempfile.gettempdir()).glob(f"{PREFIX}*"))
    except OSError:  # there is none to write to, which making one will say
        return swept
    for directory in left:
        try:
            if directory.is_symlink() or directory.stat().st_uid != os.getuid():
                continue
            with (directory / _OWNER).open("rb+") as lock:
                _lock(lock)
                end_leftovers(directory.resolve())
                _remove(directory)
        except OSError:  # it has an owner, or is going at this moment
            continue
        swept.append(directory)
    return swept


def _lock(file: IO[bytes]) -> None:
    """Lock a file for this process; raises BlockingIOError where another one holds it."""
    import fcntl  # not there on Windows, where `d2serve predict` runs all the same

    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _remove(directory: Path) -> None:
    for _ in range(20):
        shutil.rmtree(directory, ignore_errors=True)
        if not directory.exists():
            return
        time.sleep(_POLL_SECONDS)
