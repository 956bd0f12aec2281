"""What a batch is to do, in whichever processes it is done."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from d2serve.client.errors import ArchiveRefused
from d2serve.client.own_handling import Handling, held_to, own_handling
from d2serve.handlers.bundle import read_bundled_spec, read_version
from d2serve.handlers.errors import InvalidOption, LoadError
from d2serve.handlers.requests.options import RequestOptions
from d2serve.handlers.spec.model_spec import ModelSpec
from d2serve.server.batch.columns import Options, schema_of
from d2serve.server.batch.errors import BatchRefused
from d2serve.server.batch.folder import Folder
from d2serve.server.batch.manifest import Manifest, begin
from d2serve.server.batch.results import Results
from d2serve.server.images.image_file import ImageFile

LARGEST_TASK = 8
"""Images that a worker is given at once."""


@dataclass(frozen=True)
class Job:
    """A model and how it is asked."""

    archive: Path
    spec: ModelSpec
    version: str
    options: Options = field(default_factory=dict)
    handling: Handling = field(default_factory=Handling)
    """What the archive itself says of how it is opened."""

    @staticmethod
    def of(archive: Path, options: Options) -> Job:
        """Read what the archive says, without loading it.

        Raises:
            ArchiveRefused: it cannot be read.
            BatchRefused: its model cannot be asked so.
        """
        try:
            handling = own_handling(archive)
            spec = held_to(read_bundled_spec(archive), handling)
            RequestOptions.parse(options, spec)
            return Job(archive, spec, read_version(archive), options, handling)
        except InvalidOption as error:
            raise BatchRefused(str(error)) from error
        except LoadError as error:
            raise ArchiveRefused(str(error)) from error

    @cached_property
    def schema(self) -> Any:
        """The columns of its results."""
        return schema_of(self.spec, self.options)


@dataclass(frozen=True)
class Share:
    """How many workers, and what each may use."""

    workers: int | None = None
    """None is as many as there is room for."""
    cpus: int = 1
    gpus: float = 0


Engine = Callable[[Job, Sequence[ImageFile]], Iterator[Any]]
"""Answers images: gives a pyarrow.Table of the job's columns for some of them at a time."""


def run(
    job: Job,
    where: str,
    images: Sequence[ImageFile],
    output: str,
    engine: Engine,
    show: Callable[[int, int], None],
) -> Results:
    """Answer the images that have no row yet; what is written stays, whatever ends this.

    Args:
        where: the argument by which the images were found.
        output: the folder of the results.
        show: called with how many have a row, and how many there are, before and during the work.

    Raises:
        ClientError: BatchRefused, or what the engine raises.
    """
    folder = Folder(output)
    with folder.locked():
        begin(folder, Manifest.of(where, job.spec, job.version, job.options))
        folder.sweep()
        results = Results(folder, job.schema)
        todo = [image for image in images if not results.has(image.name)]
        done = len(images) - len(todo)
        show(done, len(images))
        try:
            for table in engine(job, todo) if todo else ():
                done += results.add(table)
                show(done, len(images))
        finally:
            results.flush()
    return results


def tasks_of(images: Sequence[ImageFile], workers: int) -> list[list[ImageFile]]:
    """The images in lists for workers: short ones where there are few, so that all end together."""
    size = max(1, min(LARGEST_TASK, len(images) // (8 * workers)))
    return [list(images[start : start + size]) for start in range(0, len(images), size)]
