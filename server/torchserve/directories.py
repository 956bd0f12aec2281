"""Why: a server that is killed (kill -9, out of memory) cannot tidy up after itself, so the next
one does: else each kill would leave an unpacked copy of every model in the temporary directory.

Each server's directory is locked by the process that owns it. The system drops the lock when that
process ends in whatever way, so a directory whose lock can be had belongs to nobody any more. A
pid file would not do: its number may be another process's by now.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from d2serve.client.errors import ServerStartError

PREFIX = "d2serve-run-"
_OWNER = "owner.lock"
# Unix sockets: 108 bytes on Linux, 104 on macOS, for "<TEMP>/.ts.sock.<number>".
_LONGEST_TEMP = 85
_POLL_SECONDS = 0.05
_LEFTOVER_SECONDS = 10.0


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
        raise no_room(tempfile.tempdir or "The temporary directory", error) from error
    path = made.with_name(PREFIX + made.name.rpartition("-")[2])
    if len(os.fsencode(path / "tmp")) > _LONGEST_TEMP:
        made.rmdir()
        raise ServerStartError(
            f"The temporary directory {made.parent} has too long a path for the sockets of "
            f"TorchServe's workers. Set TMPDIR to a shorter one, such as /tmp."
        )
    try:
        lock = (made / _OWNER).open("wb")
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        (made / "tmp").mkdir()
        made.rename(path)
    except OSError as error:
        _remove(made)
        raise no_room(made.parent, error) from error
    return ServerDirectory(path, lock)


def no_room(where: str | Path, error: OSError) -> ServerStartError:
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
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _end_leftovers(directory.resolve())
                _remove(directory)
        except OSError:  # it has an owner, or is going at this moment
            continue
        swept.append(directory)
    return swept


def _end_leftovers(directory: Path) -> None:
    """Kill this user's processes that work inside a dead server's directory: its Java and workers.

    The directory is in their working directory, and nothing else's: it is private and random.
    """
    import psutil

    leftovers = []
    for process in psutil.process_iter():
        try:
            working = Path(process.cwd())
            if directory == working or directory in working.parents:
                process.kill()
                leftovers.append(process)
        except psutil.Error:  # ended meanwhile, or another user's
            continue
    psutil.wait_procs(leftovers, timeout=_LEFTOVER_SECONDS)


def _remove(directory: Path) -> None:
    for _ in range(20):
        shutil.rmtree(directory, ignore_errors=True)
        if not directory.exists():
            return
        time.sleep(_POLL_SECONDS)
