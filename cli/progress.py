"""Where commands write, and the progress of those that take minutes."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Optional, TextIO

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

# Texts of users, a path with ":x:" in it for example, are shown as they are.
console = Console(emoji=False)
error_console = Console(stderr=True, emoji=False)

Begin = Callable[[str, int], None]
Advance = Callable[[], None]
ShowDone = Callable[[int, Optional[int]], None]

_LINE_EVERY = 30.0
"""Seconds between lines about the progress where no bar can be shown."""


def note(text: str) -> None:
    """Print a sentence that the user should know, above the progress where there is one."""
    error_console.print(f"[yellow]Note:[/] {escape(text)}", soft_wrap=True, highlight=False)


@contextmanager
def shown_progress() -> Iterator[tuple[Begin, Advance]]:
    """A line for each step, with a bar where the number of parts is known.

    Yields:
        ``begin(step, parts)``, which ends the step before, and ``advance()``.
    """
    columns = (
        SpinnerColumn(finished_text="[green]✓"),
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with (
        _own_stderr() as file,
        Progress(*columns, console=Console(file=file, emoji=False)) as progress,
    ):

        def end_last() -> None:
            if progress.tasks:
                last = progress.tasks[-1]
                progress.update(last.id, total=last.total or 1, completed=last.total or 1)

        def begin(step: str, parts: int) -> None:
            end_last()
            progress.add_task(step, total=parts or None)

        yield begin, lambda: progress.advance(progress.tasks[-1].id)
        end_last()


@contextmanager
def shown_rate(what: str, beside_results: bool = False) -> Iterator[ShowDone]:
    """How many of something are done, how many a second, and the time left: a bar on a terminal,
    elsewhere a line now and then.

    Args:
        what: is counted.
        beside_results: results are printed on standard output. Nothing is shown then where they
            scroll by on the same terminal, and no lines elsewhere.

    Yields:
        ``show(done, total)``, to be called before the first and after each; ``total`` as far as it
        is known.
    """
    console, now = error_console, time.monotonic
    if beside_results and (not console.is_terminal or sys.stdout.isatty()):
        yield lambda _done, _total: None
        return
    columns = (
        SpinnerColumn(),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(elapsed_when_finished=False),
    )
    # Only errors are printed above it: what is printed on standard output goes elsewhere.
    progress = Progress(*columns, console=console, redirect_stdout=False)
    task = progress.add_task("", total=None, rate="")
    began = said = now()
    first: int | None = None

    def show(done: int, total: int | None) -> None:
        nonlocal first, said
        first = done if first is None else first
        progress.start()
        rate = f"{(done - first) / max(now() - began, 1e-9):.1f} {what}/s" if done > first else ""
        progress.update(task, completed=done, total=total, rate=rate)
        if not console.is_terminal and now() - said > _LINE_EVERY:
            said = now()
            console.print(f"{done} of {total or '?'} {what}, {rate}", highlight=False)

    try:
        yield show
    finally:
        progress.stop()


@contextmanager
def shown_share() -> Iterator[Callable[[str, float], None]]:
    """One bar for work whose length is known, with the time that is left.

    Yields:
        A function that is told what is done now, and the share of all that is done, 0 to 1.
    """
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(bar_width=24))
    left = TimeRemainingColumn()
    with Progress(*columns, left, TextColumn("left"), console=error_console) as progress:
        task = progress.add_task("", total=1.0)
        yield lambda what, share: progress.update(task, description=escape(what), completed=share)
        progress.update(task, completed=1.0)


@contextmanager
def _own_stderr() -> Iterator[TextIO]:
    """Standard error, also while the export room catches what libraries print there."""
    try:
        number = sys.stderr.fileno()
    except (OSError, ValueError):  # it is no file: a test's, say
        yield sys.stderr
        return
    with os.fdopen(os.dup(number), "w", encoding=sys.stderr.encoding, errors="replace") as own:
        yield own
