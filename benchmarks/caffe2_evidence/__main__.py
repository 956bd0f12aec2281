"""Runs Caffe2 files in Caffe2 itself: ours, and upstream's, so that ours can be trusted without it.

``python -m benchmarks.caffe2_evidence PYTHON`` (``make caffe2-evidence``) takes the Python of the
legacy environment and writes docs/caffe2_evidence.md.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.caffe2_evidence.answers import (
    OURS,
    SCALE,
    UPSTREAMS,
    ZEROS,
    of_caffe2,
    of_interpreter,
)
from benchmarks.caffe2_evidence.page import PAGE, Row, render
from benchmarks.caffe2_evidence.subjects import Subject, ours, upstreams
from benchmarks.shared.errors import BenchError
from benchmarks.shared.machine import this_machine
from d2serve.cli.progress import error_console, shown_progress
from d2serve.export.proof.comparing.comparison import Difference, compare
from d2serve.export.reading.image_files import Pixels, read_image_file
from d2serve.handlers.outputs.records import Outputs
from d2serve.handlers.spec.bounds import CAFFE2_BOUNDS
from d2serve.handlers.spec.image_form import COLOUR
from examples.shapes.generate import generate_split

_IMAGES = 12


def main(python: Annotated[Path, typer.Argument(help="Of the legacy environment.")]) -> None:
    """Compare, and write the page."""
    try:
        with shown_progress() as (begin, advance), tempfile.TemporaryDirectory() as folder:
            begin("Writing files", 0)
            generate_split(Path(folder) / "heldout", "heldout", _IMAGES)
            found = sorted((Path(folder) / "heldout" / "images").iterdir())
            images = [read_image_file(each, COLOUR) for each in found]
            written, refused = ours(Path(folder) / "ours")
            subjects = [*written, *upstreams()]
            begin("Running Caffe2", len(subjects))
            rows = []
            for subject in subjects:
                rows.append(_row(subject, images, python))
                advance()
    except BenchError as error:
        error_console.print(f"{type(error).__name__}: {error}", style="red", markup=False)
        sys.exit(1)
    PAGE.write_text(render(rows, refused, len(images), this_machine()), encoding="utf-8")


def _row(subject: Subject, images: Sequence[Pixels], python: Path) -> Row:
    eager = [subject.oracle.answer(image) for image in images]
    with tempfile.TemporaryDirectory() as folder:
        real = of_caffe2(subject, images, python, Path(folder))
    interpreted = of_interpreter(subject, images)
    return Row(
        subject.name,
        subject.family,
        subject.upstreams,
        interpreter=_compared(real[OURS], interpreted),
        ours=_compared(eager, interpreted),
        eager=_compared(eager, real[OURS]),
        zeros=_compared(eager, real[ZEROS]),
        scale=_compared(eager, real[SCALE]),
        both=_compared(eager, real[UPSTREAMS]),
    )


def _compared(
    expected: Sequence[Outputs | None], got: Sequence[Outputs | None]
) -> list[Difference | None]:
    return [
        None if one is None or other is None else compare(str(number), one, other, CAFFE2_BOUNDS)
        for number, (one, other) in enumerate(zip(expected, got))
    ]


if __name__ == "__main__":
    typer.run(main)
