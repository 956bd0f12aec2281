"""COCO's results, as commands that answer many images write them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

CocoResultsFile = Annotated[
    Optional[Path],
    typer.Option(help="Write the instances as COCO results, with the ids of --coco-json."),
]
CocoJson = Annotated[
    Optional[Path],
    typer.Option(help="The annotations of the images' data set, for --coco-results."),
]


def coco_files(results: Path | None, annotations: Path | None) -> tuple[Path, Path] | None:
    """The file of the results and that of the annotations; None where neither was given.

    Raises:
        typer.BadParameter: only one of them was.
    """
    if results is None and annotations is None:
        return None
    if results is None or annotations is None:
        raise typer.BadParameter("give --coco-results and --coco-json together, or neither")
    return results, annotations
