"""``d2serve package``: the files with which another platform runs an archive."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from d2serve.cli.progress import console
from d2serve.cli.running import fail
from d2serve.client.errors import ArchiveRefused
from d2serve.server.packaging import writing
from d2serve.server.packaging.targets import TARGETS

Platform = Enum("Platform", {name: name for name in TARGETS}, type=str)  # type: ignore[misc]


def package(
    archive: Annotated[
        Path, typer.Argument(help="An archive made by d2serve export.", metavar="FILE.mar")
    ],
    platform: Annotated[Platform, typer.Option("--for", help="What is to run it.")],
    output: Annotated[
        Path, typer.Option(help="The folder in which NAME-PLATFORM is made.")
    ] = Path(),
) -> None:
    """Write what a platform wants to run an archive: image, manifests and the archive itself."""
    try:
        folder, next_steps = writing.package(archive, platform.value, output)
    except (ArchiveRefused, writing.NotPackaged) as error:
        fail(error)
    console.print(f"[green]Wrote[/] {escape(str(folder))}", soft_wrap=True)
    for file in sorted(each for each in folder.iterdir()):
        console.print(f"  {escape(file.name)}{'/' if file.is_dir() else ''}", soft_wrap=True)
    console.print(f"Next, in that folder: {escape(next_steps)}", highlight=False, soft_wrap=True)
