"""Tells which workers of a model are answering a request; TorchServe tells only how many wait.

The workers of a version share the folder that TorchServe unpacked its archive to, and nobody else
uses it. Each has a file there. The lock on it lives as long as the worker, since even a killed
process lets go of its locks; the byte in it says whether the worker is busy, so that to be busy
costs one write to memory.
"""

from __future__ import annotations

import contextlib
import logging
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

fcntl: Any
try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

_log = logging.getLogger(__name__)

_IDLE, _BUSY = b"0", b"1"
_NAME = ".d2serve-worker-"


class WorkerMark:
    """What the other workers of this version see of this one; make one in each worker."""

    def __init__(self, model_dir: Path) -> None:
        """
        Args:
            model_dir: the unpacked archive, or TorchServe's link to a folder of the user's.
        """
        self._folder = model_dir.parent if model_dir.is_symlink() else model_dir
        self._file = None if fcntl is None else self._marked()

    @contextlib.contextmanager
    def busy(self) -> Iterator[None]:
        """Be busy within."""
        self._write(_BUSY)
        try:
            yield
        finally:
            self._write(_IDLE)

    def others(self) -> dict[str, int] | None:
        """How many other workers there are, and how many of them are busy.

        None where this cannot be known: on Windows, and where the folder cannot be written to.
        """
        if self._file is None:
            return None
        own = f"{_NAME}{os.getpid()}"
        others = [path for path in self._folder.glob(f"{_NAME}*") if path.name != own]
        marks = [mark for mark in map(_mark_of, others) if mark is not None]
        return {"others": len(marks), "busy": marks.count(_BUSY)}

    def _marked(self) -> int | None:
        try:
            # It has another name until it is locked: one without a lock is a dead worker's.
            file, path = tempfile.mkstemp(prefix=".d2serve-new-", dir=self._folder)
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.pwrite(file, _IDLE, 0)
            Path(path).rename(self._folder / f"{_NAME}{os.getpid()}")
        except OSError as error:
            _log.warning(
                "d2serve: %s cannot be written to (%s): nobody can tell whether this worker is "
                "busy, so before it is stopped there is a longer wait",
                self._folder,
                error.strerror,
            )
            return None
        return file

    def _write(self, mark: bytes) -> None:
        if self._file is not None:
            # The byte is there already, so a full disk does not matter. No request may fail here.
            with contextlib.suppress(OSError):
                os.pwrite(self._file, mark, 0)


def _mark_of(path: Path) -> bytes | None:
    """The mark of a living worker; the file of a dead one is removed."""
    try:
        with path.open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return file.read(1)
            path.unlink()
    except OSError:  # removed meanwhile
        pass
    return None
