"""``d2serve batch``: answer many images with an archive, without a server."""

from __future__ import annotations

import signal
import time
from typing import Annotated, Any, NoReturn, Optional

import typer
from rich.markup import escape

from d2serve.cli.commands import missing_package
from d2serve.cli.options import Archive
from d2serve.cli.predictions.coco_options import CocoJson, CocoResultsFile, coco_files
from d2serve.cli.predictions.request_options import (
    Classes,
    Extra,
    ExtraFormat,
    MaskFormat,
    Masks,
    MaxDetections,
    ScoreThresh,
    SemSeg,
    SemSegFormat,
    request_options,
)
from d2serve.cli.progress import console, error_console, note, shown_rate
from d2serve.cli.running import INTERRUPTED, fail
from d2serve.client.errors import ClientError
from d2serve.client.results.coco_results import CocoIds
from d2serve.server.batch.coco import check_images, write_coco_results
from d2serve.server.batch.job import Engine, Job, Share, run
from d2serve.server.batch.processes import on_this_machine
from d2serve.server.batch.results import Results
from d2serve.server.images.sources import find_images


def batch(
    archive: Archive,
    images: Annotated[
        str,
        typer.Argument(
            help="A folder, a pattern in quotes, a list (@FILE or FILE.txt), a .parquet or .tar "
            "file, or an image; of this machine, or an address such as s3://bucket/photos.",
            metavar="IMAGES",
        ),
    ],
    output: Annotated[
        str,
        typer.Option(
            help="Folder of the results, in parquet; of this machine, or an address. The same "
            "command goes on where it was interrupted."
        ),
    ],
    ray_address: Annotated[
        Optional[str],
        typer.Option(
            help="Work on a Ray cluster: auto on one of its nodes, ray://HOST:10001 from "
            "elsewhere; local starts a Ray here. Default: processes of this machine, without Ray."
        ),
    ] = None,
    workers: Annotated[
        Optional[int],
        typer.Option(min=1, help="Processes with a model each; default: as many as there is room."),
    ] = None,
    cpus_per_worker: Annotated[
        int, typer.Option(min=1, help="Cores of each, and its threads.")
    ] = 1,
    gpus_per_worker: Annotated[
        float, typer.Option(min=0, help="GPUs of each, such as 1 or 0.5.")
    ] = 0,
    coco_results: CocoResultsFile = None,
    coco_json: CocoJson = None,
    score_thresh: ScoreThresh = None,
    max_detections: MaxDetections = None,
    classes: Classes = None,
    masks: Masks = MaskFormat.RLE,
    sem_seg: SemSeg = SemSegFormat.PNG,
    extra: Extra = ExtraFormat.JSON,
) -> None:
    """Answer many images with an archive, on this machine or on a Ray cluster, into parquet."""
    coco = coco_files(coco_results, coco_json)
    asked = request_options(score_thresh, max_detections, classes, masks, sem_seg, extra)
    options = {name: value for name, value in asked.items() if value is not None}
    share = Share(workers, cpus_per_worker, gpus_per_worker)
    began = time.monotonic()
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        job = Job.of(archive, options)
        ids = CocoIds.read(coco[1]) if coco else None
        engine = on_this_machine(share) if ray_address is None else _on_ray(ray_address, share)
        with error_console.status(f"Looking for images in {escape(images)}"):
            found = list(find_images(images))
        if ids is not None:
            check_images(ids, found)
        with shown_rate("images") as show:
            results = run(job, images, found, output, engine, show)
        if coco is not None and ids is not None:
            left_out = write_coco_results(coco[0], ids, job, results)
            if left_out:
                note(left_out)
    except (KeyboardInterrupt, SystemExit):
        error_console.print(
            f"Interrupted. What was answered is in {escape(output)}, and the same command goes on.",
            soft_wrap=True,
        )
        raise typer.Exit(INTERRUPTED) from None
    except ClientError as error:
        fail(error)
    finally:
        signal.signal(signal.SIGTERM, before)
    _conclude(results, output, time.monotonic() - began)


def _on_ray(address: str, share: Share) -> Engine:
    try:
        from d2serve.server.batch.on_ray import on_ray
    except ImportError as error:
        fail(missing_package("batch --ray-address", error, "ray"))
    return on_ray(address, share)


def _interrupt(*_: Any) -> NoReturn:
    raise KeyboardInterrupt


def _conclude(results: Results, output: str, seconds: float) -> None:
    total, answered = sum(results.codes.values()), results.codes[None]
    new = total - results.kept
    before = f", {results.kept} of them before" if results.kept else ""
    speed = f" {new / seconds:.1f} images/s in {seconds:.0f} s, with the start." if new else ""
    failed = [(code, count) for code, count in results.codes.most_common() if code is not None]
    lines = (
        f"{total} images{before}: {answered} answered, {total - answered} failed.{speed}",
        *(f"  {code}: {count}" for code, count in failed),
        f"wrote {escape(output)} ({len(results.parts)} parquet files)",
    )
    for line in lines:
        console.print(line, highlight=False, soft_wrap=True)
    if not answered:
        fail("No image was answered; the column `error` of the results says why of each.")
