"""The check of a .mar, with this room's error: whoever serves or registers one catches that.

The checks themselves are the handlers', since every way to open an archive makes them.
"""

from __future__ import annotations

from pathlib import Path

from d2serve.client.errors import ArchiveRefused
from d2serve.handlers import archive_checks
from d2serve.handlers.errors import LoadError


def check_archive(archive: Path) -> int:
    """As ``d2serve.handlers.archive_checks.check_archive``; returns the bytes it unpacks to.

    Raises:
        ArchiveRefused: says what is wrong with it, and what to do.
    """
    try:
        return archive_checks.check_archive(archive)
    except LoadError as error:
        raise ArchiveRefused(str(error)) from error
