"""``d2serve diff``: where an archive and eager detectron2 differ, as a table and as pictures.

The modules of the export room are imported inside the command, as in exporting.py.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from d2serve.cli.options import (
    Archive,
    ConfigFile,
    ImageFormat,
    Imports,
    MaxSizeTest,
    MinSizeTest,
    Overrides,
    OwnImages,
    TrustWeights,
    WeightsKey,
)
from d2serve.cli.progress import console
from d2serve.cli.running import needs_detectron2, require_ours, run
from d2serve.handlers.spec.runtimes import FP32

if TYPE_CHECKING:
    from d2serve.export.proof.checking import Differences
    from d2serve.export.proof.differences.gallery import Seen

_DEFAULT_OUTPUT = Path("differences")


def diff(
    archive: Archive,
    config_file: ConfigFile,
    overrides: Overrides = None,
    images: OwnImages = None,
    output: Annotated[
        Path, typer.Option(help="Folder for the pictures, made when there are any.")
    ] = _DEFAULT_OUTPUT,
    worst: Annotated[
        int,
        typer.Option(
            help="Draw so many images that differ most, also where all are within bounds. "
            "Default: those out of bounds alone, 20 at most.",
            min=0,
        ),
    ] = 0,
    imports: Imports = None,
    min_size_test: MinSizeTest = None,
    max_size_test: MaxSizeTest = None,
    image_format: ImageFormat = None,
    trust_weights: TrustWeights = False,
    weights_key: WeightsKey = None,
) -> None:
    """Show where an archive and eager detectron2 differ, in a table and in pictures.

    Archives of bf16 and int8 are compared, too. The exit status is 0 where all images are within
    the bounds of `d2serve verify`, otherwise 1.
    """
    require_ours(archive)
    with needs_detectron2():
        from d2serve.export.proof import checking
        from d2serve.export.reading.config import ConfigSource

    source = ConfigSource(
        config_file,
        overrides or (),
        imports or (),
        min_size_test,
        max_size_test,
        image_format,
        trust_weights,
        weights_key,
    )
    found = run(
        lambda progress: checking.diff_archive(archive, source, images, output, worst, progress)
    )
    _print(found, output)
    if found.differing:
        raise typer.Exit(1)


def _print(found: Differences, output: Path) -> None:
    console.print(_table(found.seen))
    for each in found.seen:
        if each.difference.misses:
            _say(f"{each.difference.image}: {_greatest(each)}")
    if not found.differing:
        _say(f"Nothing differs beyond the bounds of `d2serve verify` on {len(found.seen)} images.")
    else:
        _say(f"{found.differing} of {len(found.seen)} images differ.")
        _say(
            found.cause
            if found.precision == FP32
            else f"The archive is in {found.precision}, whose answers differ from detectron2's by "
            "design. Whether they are good enough, its AP says: `d2serve evaluate`."
        )
    if found.pictures:
        _say(f"Pictures, the worst first: {output} ({len(found.pictures)})")
    elif not found.differing:
        _say("For pictures of the images that differ most all the same: --worst 3")


def _table(rows: tuple[Seen, ...]) -> Table:
    from d2serve.export.proof.differences import finding

    fields = {
        "boxes px": finding.BOXES,
        "scores": finding.SCORES,
        "keypoints px": finding.KEYPOINTS,
        "sem_seg pixels": finding.SEM_SEG,
        "segments pixels": finding.PANOPTIC_SEG,
        "own": finding.EXTRA,
    }
    shown = {
        title: field
        for title, field in fields.items()
        if any(each.found.most(field) for each in rows)
    }
    has_things = any(each.found.expected or each.found.got for each in rows)
    counts = ("eager", "archive", "in both") if has_things else ()
    has_masks = any(each.found.most(finding.MASKS) for each in rows)
    table = Table(
        title="The archive beside eager detectron2; images out of bounds in red",
        title_justify="left",
    )
    table.add_column("image", overflow="fold", min_width=12)
    for title in (*counts, *shown, *(["mask IoU"] if has_masks else [])):
        table.add_column(title, justify="right")
    for each in rows:
        found = each.found
        table.add_row(
            f"[red]{escape(each.difference.image)}[/]"
            if each.difference.misses
            else escape(each.difference.image),
            *map(str, (found.expected, found.got, len(found.pairing.pairs)) if has_things else ()),
            *(_number(found.most(field)) for field in shown.values()),
            *([f"{1 - found.most(finding.MASKS):.4f}"] if has_masks else []),
        )
    return table


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.2g}"


def _greatest(seen: Seen) -> str:
    """The greatest difference of an image in words; where no field has it, the whole verdict."""
    first, misses = seen.greatest, "; ".join(seen.difference.misses)
    return first.text if first is not None and (first.differs or not misses) else misses


def _say(text: str) -> None:
    console.print(escape(text), soft_wrap=True, highlight=False)
