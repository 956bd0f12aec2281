"""What workers on other machines need of this one: d2serve's own code, and the archive.

The code is that which runs here, so that a node needs d2serve's `serve` extra, a model's runtime
and Ray, but no d2serve, and no other version of it is in the way.
"""

from __future__ import annotations

import importlib
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOMS = ("handlers", "client", "server")


@contextmanager
def code_to_ship() -> Iterator[Path]:
    """A folder ``d2serve`` with the rooms that workers import, for Ray's ``py_modules``."""
    with tempfile.TemporaryDirectory(prefix="d2serve-code-") as made:
        folder = Path(made, "d2serve")
        for room in ROOMS:
            (source,) = importlib.import_module(f"d2serve.{room}").__path__
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(source, folder / room, ignore=ignored)
        yield folder


def archive_bytes(archive: Path) -> bytes:
    """An archive as one piece; a folder is packed."""
    if archive.is_file():
        return archive.read_bytes()
    with tempfile.TemporaryDirectory(prefix="d2serve-archive-") as made:
        packed = shutil.make_archive(str(Path(made, "packed")), "zip", archive)
        return Path(packed).read_bytes()
