"""``d2serve predict``: ask an archive or a running server about images and show what it sees."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Optional

import typer
from rich.markup import escape

from d2serve.cli.options import CaFilePath, KeyFilePath
from d2serve.cli.predictions import request_options, server_options
from d2serve.cli.predictions.coco_options import CocoJson, CocoResultsFile, coco_files
from d2serve.cli.predictions.inputs import IMAGES_HELP, Inputs, expanded, moves
from d2serve.cli.predictions.pictures import is_video_file
from d2serve.cli.predictions.reporting import Ask, Report, answer_all, reporting
from d2serve.cli.predictions.request_options import ExtraFormat, MaskFormat, SemSegFormat
from d2serve.cli.predictions.server_options import (
    SERVER_OPTIONS,
    Protocol,
    ServerClient,
    server_client,
)
from d2serve.cli.progress import error_console
from d2serve.cli.running import INTERRUPTED
from d2serve.client.errors import ClientError
from d2serve.client.predict.in_process import InProcessClient
from d2serve.client.predict.options import PredictOptions
from d2serve.client.results.coco_results import CocoIds
from d2serve.handlers.spec.image_form import RGB
from d2serve.handlers.spec.model_spec import SPEC_FILE

_PANEL = "Answering here, with an archive"
_ARCHIVE_OPTIONS = ("device", "threads")


def predict(
    context: typer.Context,
    name: Annotated[
        str,
        typer.Argument(
            help="An archive, or a folder that one was unpacked to, which answers here, without a "
            "server; or the name of a model that a running server serves.",
            metavar="MODEL",
        ),
    ],
    images: Annotated[list[str], typer.Argument(help=IMAGES_HELP, metavar="IMAGES")],
    draw: Annotated[
        Optional[Path],
        typer.Option(
            help="Write annotated pictures, and videos of videos, into this folder; or, of a "
            "single video, into this .mp4, .mov or .mkv."
        ),
    ] = None,
    as_json: Annotated[
        bool,
        typer.Option(
            "--json",
            help="Print the answers as JSON, one line per image; of a video with video, frame and "
            "time (s).",
        ),
    ] = False,
    coco_results: CocoResultsFile = None,
    coco_json: CocoJson = None,
    every: Annotated[
        int, typer.Option(min=1, help="Of a video, answer one of each so many frames.")
    ] = 1,
    score_thresh: request_options.ScoreThresh = None,
    max_detections: request_options.MaxDetections = None,
    classes: request_options.Classes = None,
    masks: request_options.Masks = MaskFormat.RLE,
    sem_seg: request_options.SemSeg = SemSegFormat.PNG,
    extra: request_options.Extra = ExtraFormat.JSON,
    device: Annotated[
        str, typer.Option(help="cpu, cuda or cuda:N.", rich_help_panel=_PANEL)
    ] = "cpu",
    threads: Annotated[
        Optional[int],
        typer.Option(
            min=1,
            help="CPU threads; default: OMP_NUM_THREADS, otherwise this process's cores.",
            rich_help_panel=_PANEL,
        ),
    ] = None,
    protocol: server_options.ProtocolOption = Protocol.HTTP,
    address: server_options.Address = None,
    version: server_options.Version = None,
    token: server_options.Token = None,
    key_file: KeyFilePath = None,
    ca_file: CaFilePath = None,
    header: server_options.HeaderLines = None,
    allow_token_in_clear: server_options.AllowTokenInClear = False,
) -> None:
    """Detect objects in images and videos, with an archive or with a running server."""
    here, images = _is_archive(name), expanded(images)
    _refuse(context, SERVER_OPTIONS if here else _ARCHIVE_OPTIONS, name, here)
    options = request_options.request_options(
        score_thresh, max_detections, classes, masks, sem_seg, extra
    )
    status = 0
    try:
        coco = _coco(coco_results, coco_json, images)
        _check_draw(draw, images)
        if here:
            answering = _archive(name, device, threads, options)
        else:
            settings = server_options.connection_settings(
                token, key_file, ca_file, header, allow_token_in_clear
            )
            answering = _server(name, server_client(protocol, address, settings), version, options)
        with answering as ask, reporting(as_json, draw, coco) as report:
            status = _answer_all(Inputs(images, every), ask, report)
    except ClientError as error:
        _print_failure(error)
        status = 1
    if status:
        raise typer.Exit(status)


def _answer_all(inputs: Inputs, ask: Ask, report: Report) -> int:
    """Answer what can be answered; returns the exit status. What was done is kept."""
    status = 0
    try:
        answer_all(inputs, ask, report)
    except KeyboardInterrupt:
        error_console.print("Interrupted: what came before is answered.")
        status = INTERRUPTED
    except ClientError as error:
        _print_failure(error)
        status = 1
    report.sum_up()
    return status or int(report.failed > 0)


@contextmanager
def _archive(path: str, device: str, threads: int | None, options: PredictOptions) -> Iterator[Ask]:
    with error_console.status(f"loading {escape(path)}"):
        client = InProcessClient(path, device=device, threads=threads)
    with client:
        yield lambda image: client.predict(image, array_format=RGB, **options)


@contextmanager
def _server(
    model: str, client: ServerClient, version: str | None, options: PredictOptions
) -> Iterator[Ask]:
    with client:
        yield lambda image: client.predict(
            model, image, version=version, array_format=RGB, **options
        )


def _is_archive(name: str) -> bool:
    """Whether it is one, or can be nothing else: no served model has a path for a name."""
    is_path = name.lower().endswith(".mar") or "/" in name or os.sep in name
    return is_path or Path(name, SPEC_FILE).is_file()


def _refuse(context: typer.Context, names: Sequence[str], model: str, here: bool) -> None:
    """Refuse options that were given and mean nothing for this model."""
    for name in names:
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            option = f"--{name.replace('_', '-')}"
            what = (
                f"is for a server, and {model} is an archive, which answers here"
                if here
                else f"is for an archive, and {model} is the name of a model on a server; an "
                "archive ends in .mar, or is an unpacked one"
            )
            raise typer.BadParameter(f"{option} {what}. Leave it out.")


def _coco(
    results: Path | None, annotations: Path | None, words: list[str]
) -> tuple[Path, CocoIds] | None:
    files = coco_files(results, annotations)
    if files is None:
        return None
    moving = [word for word in words if moves(word)]
    if moving:
        raise typer.BadParameter(f"--coco-results is for images, and {moving[0]} is a video")
    return files[0], CocoIds.read(files[1])


def _check_draw(draw: Path | None, words: list[str]) -> None:
    if draw is None or not is_video_file(draw):
        return
    if len(words) != 1 or not moves(words[0]):
        raise typer.BadParameter(
            f"--draw {draw} is a video, which is drawn of one video; give a folder for other images"
        )


def _print_failure(error: ClientError) -> None:
    error_console.print(f"[red]Failed.[/] {escape(str(error))}", soft_wrap=True)
