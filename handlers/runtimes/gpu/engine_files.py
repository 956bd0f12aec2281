"""Keeps the engines that were built for a GPU, so that only the first worker waits for building.

An engine is for one program, one kind of GPU, one version of TensorRT, one precision and one range
of sizes, so its file is named by all of them. Several workers begin at once: one builds, the others
wait for its file. A folder that cannot be written costs a build at each start, and no answer.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_log = logging.getLogger(__name__)

FOLDER = "D2SERVE_ENGINE_CACHE"
"""The environment variable that names the folder of engines."""


def engine_folder() -> Path:
    """Where engines are kept: what ``D2SERVE_ENGINE_CACHE`` names, or a folder of the user's cache.

    Not beside the program: a server unpacks an archive anew at each start.
    """
    named = os.environ.get(FOLDER)
    if named:
        return Path(named)
    cache = os.environ.get("XDG_CACHE_HOME") or str(Path("~/.cache").expanduser())
    return Path(cache, "d2serve", "engines")


def engine_name(facts: tuple[str, ...]) -> str:
    """The file's name for what an engine was built from and for.

    Args:
        facts: the program's hash, the GPU, TensorRT's version, the precision, the sizes. Engines of
            different facts have different names, whatever characters are in them.
    """
    readable = "-".join(
        "".join(c if c.isascii() and (c.isalnum() or c == ".") else "_" for c in fact)[:24]
        for fact in facts
    )
    digest = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]
    return f"{readable}-{digest}.engine"


def engine_of(facts: tuple[str, ...], build: Callable[[], bytes]) -> bytes:
    """The engine for these facts: read where it is kept, otherwise built and kept.

    Args:
        facts: see ``engine_name``.
        build: makes the engine, which takes minutes.
    """
    folder = engine_folder()
    file = folder / engine_name(facts)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _check_owner(folder)
        with _alone(file.with_suffix(".lock")):
            if file.is_file():
                return file.read_bytes()
            engine = build()
            _write(engine, file)
            return engine
    except OSError as error:
        _log.warning(
            "d2serve: engines cannot be kept in %s (%s), so one is built at each start. Name a "
            "folder of yours by %s.",
            folder,
            error,
            FOLDER,
        )
        return build()


def forget(facts: tuple[str, ...]) -> None:
    """Remove an engine that cannot be loaded, so that it is built again."""
    with suppress(OSError):
        (engine_folder() / engine_name(facts)).unlink()


def _check_owner(folder: Path) -> None:
    # An engine holds code for the GPU: one that another user put there must not run.
    found = folder.stat()
    if found.st_uid != os.getuid() or found.st_mode & 0o022:
        raise PermissionError("others may write there")


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    import fcntl  # not on Windows, where no server of ours runs

    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _write(engine: bytes, file: Path) -> None:
    handle, name = tempfile.mkstemp(dir=file.parent, prefix=".engine-")
    try:
        with os.fdopen(handle, "wb") as target:
            target.write(engine)
        Path(name).replace(file)
    except OSError:
        with suppress(OSError):
            Path(name).unlink()
        raise
