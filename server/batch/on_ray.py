"""Workers on a Ray cluster: Ray Data hands lists of images to actors, and gets rows back.

The plan has one operator, the actors. They read the files themselves, since Ray's own readers end
a job, or lose a block, for one bad file; and the rows come back here to be written, so that the
folder of results is this machine's and has one writer. No task beside the actors asks for a CPU.
"""

from __future__ import annotations

import logging
import os
import pickle
import socket
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
_FAR = "ray://"
"""How the address begins of a cluster that this process is no part of."""
_SECONDS_TO_CONNECT = 10


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
            archive: Ray's reference to its bytes, in a tuple, lest Ray follows it.
        """
        with tempfile.NamedTemporaryFile(suffix=".mar", delete=False) as file:
            file.write(ray.get(archive[0]))
        self._archive = Path(file.name)
        self._pool = Pool(1, share, replace(job, archive=self._archive))

    def __call__(self, block: Any) -> Any:
        """The rows of a block's images."""
        tasks = [pickle.loads(task) for task in block.column(_TASK).to_pylist()]
        return pa.concat_tables(self._pool.answered(deque(tasks)))

    def __del__(self) -> None:
        self._pool.close()
        self._archive.unlink(missing_ok=True)


class Relay:
    """Ray Data's driver, in the cluster, which a process that comes over ray:// is no part of."""

    def __init__(self, *rows_of: Any) -> None:
        """
        Args:
            rows_of: the arguments of ``_rows``.
        """
        self._rows = _rows(*rows_of)

    def next(self) -> Any:
        """The next rows; None at the end."""
        return next(self._rows, None)


def _answered(address: str, share: Share, job: Job, images: Sequence[ImageFile]) -> Iterator[Any]:
    with code_to_ship() as code, _connected(address, code):
        share = fitted(share, _nodes(), ray.available_resources)
        tasks = [pickle.dumps(task) for task in tasks_of(images, share.workers or 1)]
        archive = (ray.put(archive_bytes(job.archive)),)
        far = address.startswith(_FAR)
        try:
            yield from (_relayed if far else _rows)(job, tasks, archive, share)
        except ray.exceptions.RayError as error:
            raise _understood(error) from error


def _rows(job: Job, tasks: Sequence[bytes], archive: Any, share: Share) -> Iterator[Any]:
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    blocks = ray.data.from_blocks([pa.table({_TASK: [task]}) for task in tasks])
    answers = blocks.map_batches(
        Worker,
        fn_constructor_args=(job, archive, share),
        batch_size=None,
        batch_format="pyarrow",
        compute=ray.data.ActorPoolStrategy(size=min(share.workers or 1, len(tasks))),
        num_cpus=share.cpus,
        num_gpus=share.gpus or None,
    )
    yield from answers.iter_batches(batch_size=None, batch_format="pyarrow")


def _relayed(*rows_of: Any) -> Iterator[Any]:
    relay = ray.remote(num_cpus=0)(Relay).remote(*rows_of)
    table = ray.get(relay.next.remote())
    while table is not None:
        following = relay.next.remote()
        yield table
        table = ray.get(following)


@contextmanager
def _connected(address: str, code: Path) -> Iterator[None]:
    if address == "local":  # whoever runs a cluster has decided; a Ray of ours tells nobody
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        _knock(address)
        ray.init(
            address,
            runtime_env={"py_modules": [str(code)]},
            logging_level=logging.ERROR,
            log_to_driver=False,
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise BatchRefused(
            f"No Ray cluster answers at {address} ({error}). Expected auto on a node of one, "
            "ray://HOST:10001 from elsewhere, or local."
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


def _knock(address: str) -> None:
    """Raise OSError where nobody is, which Ray says after minutes."""
    host, colon, port = address.rpartition("://")[2].partition(":")
    if colon and port.isdecimal():
        socket.create_connection((host, int(port)), _SECONDS_TO_CONNECT).close()


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
