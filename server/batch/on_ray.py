"""Workers on a Ray cluster: Ray Data hands lists of images to actors, and gets rows back.

The plan has one operator, the actors. They read the files themselves, since Ray's own readers end
a job, or lose a block, for one bad file; and the rows come back here to be written, so that the
folder of results is this machine's and has one writer. No task beside the actors asks for a CPU.
"""

from __future__ import annotations

import logging
import pickle
import tempfile
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import ray
import ray.data

from d2serve.client.errors import ClientError
from d2serve.server.batch.cluster import fitted
from d2serve.server.batch.errors import BatchRefused, WorkersFailed
from d2serve.server.batch.job import Engine, Job, Share, tasks_of
from d2serve.server.batch.processes import Pool
from d2serve.server.batch.shipping import archive_bytes, code_to_ship
from d2serve.server.images.image_file import ImageFile

_TASK = "task"
"""The column of Ray's blocks: a row is a list of images."""


def on_ray(address: str, share: Share) -> Engine:
    """An engine of Ray actors.

    Args:
        address: as ray.init takes it: ``auto``, ``ray://HOST:PORT``, ``HOST:PORT``; ``local``
            starts a Ray on this machine.
    """
    return partial(_answered, address, share)


class Worker:
    """An actor: one process of a model, so that an image which ends that does not end this."""

    def __init__(self, job: Job, archive: Any, share: Share) -> None:
        """
        Args:
            job: whose archive lies on another machine.
            archive: Ray's reference to its bytes.
        """
        with tempfile.NamedTemporaryFile(suffix=".mar", delete=False) as file:
            file.write(ray.get(archive))
        self._archive = Path(file.name)
        self._pool = Pool(1, share, replace(job, archive=self._archive))

    def __call__(self, block: Any) -> Any:
        """The rows of a block's images."""
        tasks = [pickle.loads(task) for task in block.column(_TASK).to_pylist()]
        return pa.concat_tables(self._pool.answered(deque(tasks)))

    def __del__(self) -> None:
        self._pool.close()
        self._archive.unlink(missing_ok=True)


def _answered(address: str, share: Share, job: Job, images: Sequence[ImageFile]) -> Iterator[Any]:
    with code_to_ship() as code, _connected(address, code):
        share = fitted(share, _nodes(), ray.available_resources)
        workers = share.workers or 1
        tasks = [pickle.dumps(task) for task in tasks_of(images, workers)]
        archive = ray.put(archive_bytes(job.archive))
        blocks = ray.data.from_blocks([pa.table({_TASK: [task]}) for task in tasks])
        answers = blocks.map_batches(
            Worker,
            fn_constructor_args=(job, archive, share),
            batch_size=None,
            batch_format="pyarrow",
            compute=ray.data.ActorPoolStrategy(size=min(workers, len(tasks))),
            num_cpus=share.cpus,
            num_gpus=share.gpus or None,
        )
        try:
            yield from answers.iter_batches(batch_size=None, batch_format="pyarrow")
        except ray.exceptions.RayError as error:
            raise _understood(error) from error


@contextmanager
def _connected(address: str, code: Path) -> Iterator[None]:
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    try:
        ray.init(
            address,
            runtime_env={"py_modules": [str(code)]},
            logging_level=logging.ERROR,
            log_to_driver=False,
        )
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise BatchRefused(
            f"No Ray cluster answers at {address} ({error}). Expected auto on a node of one, "
            "ray://HOST:10001 from elsewhere, or local."
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


def _nodes() -> list[dict[str, float]]:
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def _understood(error: BaseException) -> ClientError:
    """The error of ours that a worker raised, or one that says what Ray's says."""
    cause: BaseException | None = error
    while cause is not None:
        found = getattr(cause, "cause", None)
        if isinstance(found, ClientError):
            return found
        cause = found if isinstance(found, BaseException) else cause.__cause__
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return WorkersFailed(
        f"Ray gave up ({lines[-1].strip()}). The same command goes on where this one was; Ray's "
        "dashboard and logs say more."
    )
