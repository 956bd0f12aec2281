"""How a command runs work of the export room, and how it ends when that cannot be done."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import typer
from rich.markup import escape

from d2serve.cli.progress import error_console, shown_progress


@contextmanager
def needs_detectron2() -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        fail(
            f"This command needs the export extra and your own detectron2 ({error}). "
            "Install them: pip install 'd2serve[export]', and detectron2 as its INSTALL.md says."
        )


def run(work: Callable[[Any], Any]) -> Any:
    from d2serve.export.errors import ExportError
    from d2serve.export.request import Progress

    try:
        with shown_progress() as (begin, advance):
            return work(Progress(begin, advance))
    except ExportError as error:
        fail(error)


def fail(error: object) -> NoReturn:
    error_console.print(f"[red]Error:[/] {escape(str(error))}", soft_wrap=True)
    raise typer.Exit(1)
