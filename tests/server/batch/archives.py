"""An archive of known answers, and images, for batches of a second."""

from __future__ import annotations

import io
import os
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from d2serve.handlers.requests.request import PREDICT, Request
from d2serve.handlers.service import Service
from d2serve.server.batch.job import Job
from d2serve.server.batch.results import Results
from d2serve.server.batch.rows import reply_of
from d2serve.server.images.image_file import ImageFile
from d2serve.server.images.sources import find_images
from tests.client.answering_archives import answering_archive

BROKEN = b"no image"


@dataclass(frozen=True)
class Deadly:
    """An image that ends whoever reads it, as one does that a library crashes on."""

    name: str

    def read(self) -> bytes:
        os.kill(os.getpid(), signal.SIGKILL)
        return b""


def images_of(folder: Path, count: int, broken: Mapping[int, bytes] | None = None) -> Path:
    """A folder of so many small PNGs, of several greys; those of ``broken`` have its bytes."""
    folder.mkdir(exist_ok=True)
    files = []
    for grey in range(50):
        file = io.BytesIO()
        Image.new("RGB", (30 + grey % 7, 20), (grey, grey, grey)).save(file, "PNG")
        files.append(file.getvalue())
    for number in range(count):
        data = (broken or {}).get(number, files[number % len(files)])
        (folder / f"{number:04d}.png").write_bytes(data)
    return folder


def found(folder: Path) -> list[ImageFile]:
    return list(find_images(str(folder)))


def job_of(folder: Path, **options: object) -> Job:
    return Job.of(answering_archive(folder / "shapes.mar"), options)


def plain_loop(job: Job, images: list[ImageFile]) -> dict[str, bytes]:
    """The replies of the service, one image after another."""
    with_service = Service.open(job.archive)
    return {
        image.name: with_service.reply(
            Request(body=image.read(), fields=job.options, kind=PREDICT)
        ).body
        for image in images
    }


def replies(job: Job, results: Results) -> dict[str, bytes]:
    """What the rows say, of those with an answer."""
    return {
        row["path"]: reply_of(row, job.spec, job.version, job.options)
        for row in results.rows()
        if row["error_code"] is None
    }
