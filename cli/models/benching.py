"""``d2serve bench``: how fast archives answer on this machine, and what to configure."""

from __future__ import annotations

import json
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from d2serve.cli.models.bench_exports import exported, how_to, missing_ways
from d2serve.cli.models.bench_tables import print_measured
from d2serve.cli.options import (
    CONFIG_FILE_HELP,
    ImageFormat,
    Imports,
    MaxSizeTest,
    MinSizeTest,
    TrustWeights,
    WeightsKey,
)
from d2serve.cli.progress import note, shown_share
from d2serve.cli.running import INTERRUPTED, fail, needs_detectron2
from d2serve.client.errors import ArchiveRefused
from d2serve.handlers.archive_checks import check_archive
from d2serve.handlers.bundle import copy_program
from d2serve.handlers.errors import LoadError
from d2serve.server.archives.contents import read_contents
from d2serve.server.measuring.advice import advice_of
from d2serve.server.measuring.images import Images, drawn_image, form_of, images_of
from d2serve.server.measuring.machine import Machine, has_gpu, this_machine
from d2serve.server.measuring.plan import MeasureError, Subject, setups_for
from d2serve.server.measuring.plot import save_plot
from d2serve.server.measuring.report import report_of
from d2serve.server.measuring.session import Measured, measure

_ARCHIVES = "archives"
"""Folder below --output for those that are exported."""


def bench(
    archives_and_overrides: Annotated[
        list[str],
        typer.Argument(
            help="Archives made by d2serve export; behind them, with --config-file, what replaces "
            "values of the config: MODEL.WEIGHTS model_final.pth.",
            metavar="FILE.mar... [OVERRIDES]",
        ),
    ],
    images: Annotated[
        Optional[str],
        typer.Option(
            help="Your own images: a folder, pattern, list or shard, of which 12 are taken. "
            "Default: a drawn picture of the model's input size, in which few things are found.",
            metavar="DIR",
        ),
    ] = None,
    output: Annotated[
        Optional[Path],
        typer.Option(
            help="Folder for bench.json, the plot bench.png, and what is exported. Default: they "
            "are not kept."
        ),
    ] = None,
    seconds: Annotated[
        float, typer.Option(help="How long to measure, about, without the exports.")
    ] = 120.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, and no table.")] = False,
    config_file: Annotated[
        Optional[str],
        typer.Option(
            "--config-file",
            help=f"{CONFIG_FILE_HELP} The runtimes that no archive has are exported first.",
        ),
    ] = None,
    coco_json: Annotated[
        Optional[Path],
        typer.Option(help="COCO annotations, to export in bf16 and int8 as well; judged on all."),
    ] = None,
    image_root: Annotated[
        Optional[Path],
        typer.Option(help="Folder of the images of --coco-json; int8 is calibrated on them."),
    ] = None,
    imports: Imports = None,
    min_size_test: MinSizeTest = None,
    max_size_test: MaxSizeTest = None,
    image_format: ImageFormat = None,
    trust_weights: TrustWeights = False,
    weights_key: WeightsKey = None,
) -> None:
    """Measure how fast archives answer on this machine, and say what to configure.

    Each archive is run by worker processes as a server's are, with several numbers of workers and
    threads, in turns, as long as there is time. Ctrl-C shows what there is so far.
    """
    archives, overrides = _split(archives_and_overrides)
    if not archives:
        fail("No archive is named, expected a .mar file made by `d2serve export`.")
    if overrides and config_file is None:
        fail(f"{overrides[0]} is no archive: expected files that end in .mar, or --config-file.")
    if (coco_json is None) != (image_root is None):
        fail("--coco-json and --image-root go together: give both or neither.")
    machine = this_machine()
    with ExitStack() as folders:
        work = Path(folders.enter_context(tempfile.TemporaryDirectory(prefix="d2serve-bench-")))
        try:
            subjects = [_subject(archive, work) for archive in archives]
            form_of([each.spec for each in subjects])
            missing = missing_ways([each.spec for each in subjects])
            if config_file is not None:
                with needs_detectron2():
                    from d2serve.export.reading.config import ConfigSource
                source = ConfigSource(
                    config_file,
                    overrides,
                    imports or (),
                    min_size_test,
                    max_size_test,
                    image_format,
                    trust_weights,
                    weights_key,
                )
                dataset = (
                    None if coco_json is None or image_root is None else (coco_json, image_root)
                )
                store = (output or work) / _ARCHIVES
                made = exported(missing, source, subjects[0].spec, dataset, store)
                subjects += [_subject(archive, work) for archive in made]
            elif missing:
                note(how_to(missing))
            if has_gpu():
                note("This machine has a GPU. What is measured here is its CPU.")
            subjects_images = (
                images_of(images, work)
                if images is not None
                else drawn_image([each.spec for each in subjects], work)
            )
            with shown_share() as report:
                measured = measure(
                    subjects, setups_for(machine.cores), subjects_images, seconds, report
                )
        except (ArchiveRefused, LoadError, MeasureError) as error:
            fail(error)
        _show(machine, subjects_images, measured, output, as_json)
    if measured.interrupted:
        raise typer.Exit(INTERRUPTED)


def _split(words: list[str]) -> tuple[list[Path], list[str]]:
    """Archives come first; the rest, from the first word that is none on, are overrides."""
    for index, word in enumerate(words):
        if not word.endswith(".mar") and not Path(word).is_dir():
            return [Path(each) for each in words[:index]], words[index:]
    return [Path(each) for each in words], []


def _subject(archive: Path, work: Path) -> Subject:
    """Unpack an archive once for all its workers, as TorchServe does."""
    spec = read_contents(archive).spec()
    if archive.is_file():
        check_archive(archive)
    folder = Path(tempfile.mkdtemp(dir=work))
    copy_program(archive, folder)
    return Subject(archive.name, folder, spec)


def _show(
    machine: Machine, images: Images, measured: Measured, output: Optional[Path], as_json: bool
) -> None:
    if not measured.cells:
        fail("Nothing was measured before it was interrupted.")
    advice = advice_of(measured.cells, machine.cores)
    report = report_of(machine, images, measured, advice)
    if as_json:
        sys.stdout.write(json.dumps(report, indent=2) + "\n")
    else:
        print_measured(machine, images, measured, advice)
    if output is not None:
        _keep(machine, images, measured, report, output)


def _keep(
    machine: Machine, images: Images, measured: Measured, report: dict[str, Any], output: Path
) -> None:
    try:
        output.mkdir(parents=True, exist_ok=True)
        (output / "bench.json").write_text(json.dumps(report, indent=2) + "\n")
        save_plot(machine, images.described, measured.cells, output / "bench.png")
    except ImportError as error:
        note(f"There is no plot ({error}): pip install 'd2serve[measure]'.")
    except OSError as error:
        fail(f"{output} cannot be written ({error.strerror or error}): give another --output.")
    note(f"The figures are kept in {output}.")
