"""``d2serve inspect`` and ``d2serve list``: what archives hold, without loading a model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer
from rich.markup import escape
from rich.table import Table

from d2serve.cli.models.export_tables import print_accuracy, print_spec, print_verification
from d2serve.cli.models.pictures import require_svg, write_picture
from d2serve.cli.options import DEFAULT_STORE, Archive
from d2serve.cli.progress import console, error_console, note
from d2serve.cli.running import fail, needs_detectron2, run
from d2serve.client.errors import ArchiveRefused
from d2serve.handlers.spec.model_spec import SPEC_FILE, ModelSpec
from d2serve.server.archives.contents import ArchiveContents, read_contents

if TYPE_CHECKING:
    from d2serve.export.request import Progress

_NOT_OURS = "not made by d2serve"


def inspect(
    archive: Archive,
    graph: Annotated[
        Optional[Path],
        typer.Option(help="Write the picture of the network, an SVG file, to this path."),
    ] = None,
) -> None:
    """Show what an archive holds and how it was verified."""
    if graph is not None:
        require_svg(graph)
    try:
        contents = read_contents(archive, whole=True)
        spec = contents.spec()
    except ArchiveRefused as error:
        fail(error)
    if graph is not None:
        write_picture(graph, contents.picture or _drawn(archive, spec))
    try:
        print_spec(spec, contents.version, contents.picture)
        print_verification(spec.verification)
        print_accuracy(spec)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        fail(
            f"{archive} is damaged: its {SPEC_FILE} lacks what `d2serve export` writes "
            f"({type(error).__name__}: {error}). Export the model again."
        )


def _drawn(archive: Path, spec: ModelSpec) -> bytes:
    """The picture of an archive that has none, of its program."""
    note(f"{archive} has no picture: this one is drawn from {spec.program}.")
    with needs_detectron2():
        from d2serve.export.archive.opening import opened
        from d2serve.export.picture.sources import draw_file

    def draw(_progress: Progress) -> str:
        with opened(archive) as folder:
            return draw_file(folder / spec.program, spec.name)

    drawn: str = run(draw)
    return drawn.encode()


def list_archives(
    model_store: Annotated[
        Path, typer.Option(help="The folder of .mar files to list.")
    ] = DEFAULT_STORE,
) -> None:
    """List the archives of a model store: name, version, runtime and size.

    The exit status is 1 where a file of the store is damaged or no archive.
    """
    if not model_store.is_dir():
        fail(
            f"There is no model store {model_store}: expected a folder of .mar files. Make an "
            "archive with `d2serve export`, or name another folder with --model-store."
        )
    found: list[ArchiveContents] = []
    refused: list[ArchiveRefused] = []
    for file in sorted(model_store.glob("*.mar")):
        try:
            found.append(read_contents(file))
        except ArchiveRefused as error:
            refused.append(error)
    if found:
        console.print(_table(found))
    elif not refused:
        console.print(
            f"{escape(str(model_store))} holds no .mar file. Make one with `d2serve export`.",
            soft_wrap=True,
        )
    for refusal in refused:
        error_console.print(f"[red]Error:[/] {escape(str(refusal))}", soft_wrap=True)
    if refused:
        raise typer.Exit(1)


def _table(found: list[ArchiveContents]) -> Table:
    table = Table()
    for column in ("name", "version", "model", "runtime", "precision", "MB", "file"):
        table.add_column(column, overflow="fold", justify="right" if column == "MB" else "left")
    for each in sorted(found, key=ArchiveContents.order):
        described = each.description or {"family": _NOT_OURS}
        facts = (str(described.get(key, "")) for key in ("family", "runtime", "precision"))
        megabytes = f"{each.size / 1e6:.1f}"
        cells = (each.name, each.version, *facts, megabytes, each.path.name)
        table.add_row(*(escape(cell) for cell in cells))
    return table
