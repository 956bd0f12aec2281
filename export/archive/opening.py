"""Opens a .mar to run it: checked as a server does, then extracted into a private folder."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from d2serve.export.errors import ArchiveError
from d2serve.handlers.archive_checks import check_archive, opened_archive
from d2serve.handlers.errors import LoadError


@contextmanager
def opened(archive: Path) -> Iterator[Path]:
    """The contents of a .mar in a private folder; of one that was extracted, its own folder.

    Raises:
        ArchiveError: it is missing, no archive, damaged, harmful, or not for this machine.
    """
    if archive.is_dir():
        yield archive
        return
    with tempfile.TemporaryDirectory(prefix="d2serve-mar-") as folder:
        try:
            check_archive(archive)
            with opened_archive(archive) as file:
                file.extractall(folder)
        except LoadError as error:
            raise ArchiveError(str(error)) from error
        yield Path(folder)
