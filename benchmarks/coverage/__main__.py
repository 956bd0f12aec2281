"""Makes docs/coverage.md and docs/formats.md, so that nobody has to believe a table.

``python -m benchmarks.coverage`` (``make coverage-table``) makes every row, ``--only NAME`` one or
several, ``--examples`` those of the example models (``make formats-table``); each is written as
soon as it is done. With ``--resume``, what is there stays: it makes the rows that a run which was
ended left out, and a column that is new.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.coverage import formats_page, page, record
from benchmarks.coverage.record import (
    FORMAT_KINDS,
    HELD_OUT,
    RESULTS,
    ZOO_KINDS,
    Coverage,
    Row,
)
from benchmarks.coverage.rows import made_apart
from benchmarks.coverage.zoo import same_models, zoo_configs
from benchmarks.shared.errors import BenchError
from benchmarks.shared.machine import this_machine
from d2serve.cli.progress import error_console, shown_progress
from d2serve.export.rewrites.registry import REWRITES
from examples.shapes.generate import generate_split

_ROOT = Path(__file__).resolve().parent.parent.parent
_MODELS = _ROOT / "examples" / "shapes" / "models"
_PACKAGES = ("python", "detectron2", "torch", "torchvision", "onnxruntime", "openvino")


def main(
    only: Annotated[list[str] | None, typer.Option(help="Make these rows only.")] = None,
    examples: Annotated[bool, typer.Option(help="Make the example models' rows only.")] = False,
    resume: Annotated[bool, typer.Option(help="Keep what is there, make the rest.")] = False,
) -> None:
    """Make the tables of what exports."""
    if only and (examples or resume):
        raise typer.BadParameter("Got --only with --examples or --resume, expected one of them.")
    try:
        with shown_progress() as (begin, advance):
            make(list(example_models()) if examples else only, resume, begin, advance)
    except BenchError as error:
        error_console.print(f"{type(error).__name__}: {error}", style="red", markup=False)
        sys.exit(1)


def make(
    only: list[str] | None,
    resume: bool,
    begin: Callable[[str, int], None],
    advance: Callable[[], None],
) -> None:
    """Make rows, writing the record and the page after each.

    Raises:
        BenchError: there is no such row, or those that are kept were made with other versions.
    """
    zoo, examples = same_models(zoo_configs()), example_models()
    unknown = sorted(set(only or ()) - zoo.keys() - set(examples))
    if unknown:
        raise BenchError(
            f"There is no row {', '.join(unknown)}. Expected such as {next(iter(zoo))}, or one of "
            f"the example models {', '.join(examples)}."
        )
    coverage = _begun(kept=bool(only) or resume)
    kept = coverage if resume else Coverage({})
    missing = {name: _missing(kept.zoo.get(name), ZOO_KINDS) for name in zoo}
    missing |= {name: _missing(kept.examples.get(name), FORMAT_KINDS) for name in examples}
    wanted = {name for name in only or missing if missing[name]}
    # The rows of a model that several describe go together.
    runs = sorted({zoo[name] for name in wanted & zoo.keys()})
    begin("Example models", len(wanted & set(examples)))
    with tempfile.TemporaryDirectory(prefix="d2serve-heldout-") as folder:
        images = _held_out(Path(folder))
        for name in sorted(wanted & set(examples)):
            row = made_apart(str(examples[name].relative_to(_ROOT)), missing[name], images)
            coverage.examples[name] = _with(kept.examples.get(name), replace(row, config=name))
            _save(coverage)
            advance()
    begin("Model zoo", len(runs))
    for name in runs:
        row = made_apart(name, ZOO_KINDS)
        for other in (each for each, first in zoo.items() if first == name):
            coverage.zoo[other] = _shared(row, other)
        _save(coverage)
        advance()


def example_models() -> dict[str, Path]:
    """The example models' configs, by name."""
    weights = sorted(_MODELS.glob("*.pth"))
    files = {file.stem: file for kind in ("yaml", "py") for file in _MODELS.glob(f"*.{kind}")}
    return {file.stem: files[file.stem] for file in weights}


def _missing(row: Row | None, kinds: Sequence[str]) -> list[str]:
    return [kind for kind in kinds if row is None or kind not in row.cells]


def _with(old: Row | None, new: Row) -> Row:
    """A row with the cells that it had and the new ones, in the order of the columns."""
    if old is None:
        return new
    cells = {**old.cells, **new.cells}
    return replace(
        new,
        cells={kind: cells[kind] for kind in FORMAT_KINDS if kind in cells},
        made=tuple(sorted({*old.made, *new.made})),
        cpus=tuple(sorted({*old.cpus, *new.cpus})),
        seconds=round(old.seconds + new.seconds, 1),
    )


def _begun(kept: bool) -> Coverage:
    installed = this_machine().versions
    versions = {name: installed[name] for name in _PACKAGES}
    new = Coverage(versions)
    if not kept or not RESULTS.exists():
        return new
    old = record.read()
    if old.versions != versions:
        raise BenchError(
            f"The rows in {RESULTS.name} were made with {old.versions}, here are {versions}; one "
            "table is of one set of versions. Make all of it: make coverage-table"
        )
    return old


def _held_out(folder: Path) -> list[Path]:
    generate_split(folder, "heldout", HELD_OUT)
    return sorted((folder / "images").glob("*.jpg"))


def _shared(row: Row, name: str) -> Row:
    return row if row.config == name else replace(row, config=name, same_as=row.config)


def _save(coverage: Coverage) -> None:
    rows = (*coverage.zoo.values(), *coverage.examples.values())
    used = {name for row in rows for cell in row.cells.values() for name in cell.rewrites}
    coverage.reasons = {each.name: each.reason for each in REWRITES if each.name in used}
    record.write(coverage)
    for each in (page, formats_page):
        each.PAGE.write_text(each.render(coverage), encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
