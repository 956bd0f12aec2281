"""A worker's part: image files in, rows of the results out; no image ends it with an exception."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Union

import pyarrow as pa

from d2serve.handlers.detector import Detector
from d2serve.handlers.requests.request import PREDICT, Request
from d2serve.handlers.service import Service
from d2serve.server.batch.job import Job
from d2serve.server.batch.rows import Row, failed, row_of
from d2serve.server.images.image_file import ImageFile

UNREADABLE = "unreadable_file"
"""The error code of an image whose bytes could not be read."""

_READ_AHEAD = 4
"""Files at once: those at an address take their time, and the model need not wait for it."""
_TOGETHER = 8
"""Images in a call of the program, where it is called with several."""

Contents = Union[bytes, Exception]


class Answerer:
    """A loaded model, and how it is asked."""

    def __init__(self, job: Job, threads: int, on_gpu: str | None) -> None:
        """
        Args:
            job: whose archive may be a folder that one was unpacked to.
            threads: CPU threads.
            on_gpu: ``"cuda"`` or ``"cuda:N"``; None is the CPU.

        Raises:
            LoadError: the archive cannot be served here.
        """
        device = on_gpu or "cpu"
        detector = Detector.open(job.archive, device=device, threads=threads, **job.handling)
        self._service = Service(detector, detector.spec.name, job.version)
        self._options = job.options
        self._schema = job.schema
        self._batch = _TOGETHER if detector.answers_together else 1
        self._readers = ThreadPoolExecutor(_READ_AHEAD)

    def answer(self, images: Sequence[ImageFile]) -> Any:
        """A pyarrow.Table with a row for each image, in order."""
        rows: list[Row] = []
        contents = self._readers.map(_read, images)
        for start in range(0, len(images), self._batch):
            some = images[start : start + self._batch]
            rows += self._rows(some, [next(contents) for _ in some])
        return pa.Table.from_pylist(rows, self._schema)

    def _rows(self, images: Sequence[ImageFile], contents: Sequence[Contents]) -> Iterator[Row]:
        requests = [
            Request(body=data, fields=self._options, kind=PREDICT)
            for data in contents
            if isinstance(data, bytes)
        ]
        replies = iter(self._service.replies(requests))
        for image, data in zip(images, contents):
            if isinstance(data, bytes):
                yield row_of(image.name, next(replies))
            else:
                yield failed(
                    image.name, UNREADABLE, " ".join(f"{type(data).__name__}: {data}".split())
                )


def _read(image: ImageFile) -> Contents:
    try:
        return image.read()
    except Exception as error:  # of whatever library the address belongs to
        return error
