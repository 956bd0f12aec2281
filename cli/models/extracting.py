"""``d2serve extract``: the program of an archive, for engines that know nothing of archives."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from d2serve.cli.options import Archive
from d2serve.cli.progress import console
from d2serve.cli.running import fail
from d2serve.client.errors import ArchiveRefused
from d2serve.server.archives import extracting


def extract(
    archive: Archive,
    output: Annotated[
        Path, typer.Option(help="The folder in which one of the model's name is made.")
    ] = Path(),
) -> None:
    """Take the program out of an archive, as the engine that runs it wants it.

    Beside it are written model_spec.json, by which images are prepared and answers read, and
    model.svg where the archive has it.
    """
    try:
        written = extracting.extract(archive, output)
    except (ArchiveRefused, extracting.NotExtracted) as error:
        fail(error)
    console.print(f"[green]Wrote[/] {escape(str(written))}", soft_wrap=True)
    for file in sorted(each for each in written.rglob("*") if each.is_file()):
        console.print(f"  {escape(file.relative_to(written).as_posix())}", soft_wrap=True)
