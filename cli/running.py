"""How a command runs work of the export room, and how it ends when that cannot be done."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import typer
from rich.markup import escape

from d2serve.cli.progress import error_console, note, shown_progress
from d2serve.client.errors import ArchiveRefused
from d2serve.export.reading.installation import advice_for
from d2serve.server.archives.contents import read_contents

T = TypeVar("T")

INTERRUPTED = 130
"""The exit status of what Ctrl-C ended, as shells have it."""


@contextmanager
def needs_detectron2() -> Iterator[None]:
    """End the command with what to install where an import within fails."""
    try:
        yield
    except ImportError as error:
        advice = advice_for(error) or (
            "Install detectron2 as its INSTALL.md says, and the rest with pip install "
            "'d2serve[export]'."
        )
        fail(
            f"This command needs detectron2 and d2serve's export extra, and {sys.executable} lacks "
            f"a part of them ({error}). {advice}"
        )


def require_ours(archive: Path) -> None:
    """End the command unless this is an archive that `d2serve export` made: said at once, and not
    after the minutes that loading a model takes."""
    try:
        read_contents(archive).spec()
    except ArchiveRefused as error:
        fail(error)


def run(work: Callable[[Any], Any]) -> Any:
    """Show the progress of work of the export room; end the command with its error."""
    from d2serve.export.errors import ExportError
    from d2serve.export.request import Progress

    try:
        with shown_progress() as (begin, advance):
            return work(Progress(begin, advance, note))
    except ExportError as error:
        fail(error)


def or_fail(read: Callable[[], T]) -> T:
    """What is read; end the command with the export room's error where it cannot be."""
    from d2serve.export.errors import ExportError

    try:
        return read()
    except ExportError as error:
        fail(error)


def fail(error: object) -> NoReturn:
    """End the command with a message and exit status 1."""
    error_console.print(f"[red]Error:[/] {escape(str(error))}", soft_wrap=True)
    raise typer.Exit(1)
