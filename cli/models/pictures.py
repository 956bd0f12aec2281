"""Writes the picture of a network: whole, or not at all."""

from __future__ import annotations

from pathlib import Path

from rich.markup import escape

from d2serve.cli.progress import console
from d2serve.cli.running import fail
from d2serve.client.whole_files import written_whole

_ENDING = ".svg"


def write_picture(path: Path, svg: bytes) -> None:
    """Write an SVG file and say so; end the command where that cannot be done."""
    try:
        with written_whole(path) as file:
            file.write(svg)
    except OSError as error:
        fail(
            f"{path} cannot be written ({error.strerror}). Expected a path in a folder that is "
            "there and that you may write."
        )
    size = f"{len(svg) / 1000:.0f} kB"
    console.print(f"Wrote {escape(str(path))} ({size}); any browser shows it.", soft_wrap=True)


def require_svg(path: Path) -> None:
    """End the command unless a path is one that pictures are written to: said before any work."""
    if path.suffix.lower() != _ENDING:
        fail(f"The picture is an SVG file, but {path} does not end in {_ENDING}. Name it so.")
