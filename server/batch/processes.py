"""Workers of this machine: a process each, with a share of its cores.

A process that ends, of an image that crashes a library or takes all memory, is replaced. What it
had is given out again image by image, so that only what ends a second process has an error.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from functools import partial
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import pyarrow as pa

from d2serve.client.errors import ArchiveRefused
from d2serve.handlers.cores import available_cores
from d2serve.handlers.errors import LoadError
from d2serve.server.batch.answering import Answerer
from d2serve.server.batch.errors import BatchRefused, WorkersFailed
from d2serve.server.batch.job import Engine, Job, Share, tasks_of
from d2serve.server.batch.rows import failed
from d2serve.server.images.image_file import ImageFile

WORKER_ENDED = "worker_ended"
"""The error code of an image that ended two workers."""

_AHEAD = 2  # tasks of a worker: one that it is at, and the next
_MOST_STARTS_FAILED = 3
_MOST_ENDED = 20

Task = list[ImageFile]


def on_this_machine(share: Share) -> Engine:
    """An engine of processes; by default as many as have their share of the cores, or GPUs.

    Raises:
        BatchRefused: the machine has no room for them.
    """
    cores, gpus = available_cores(), _gpus() if share.gpus else 0
    most = int(gpus / share.gpus) if share.gpus else cores // share.cpus
    workers = share.workers or min(most, max(1, cores // share.cpus))
    if share.cpus > cores or not most or (share.gpus and workers > most):
        raise BatchRefused(
            f"{share.workers or 1} workers of {share.cpus} cores and {share.gpus:g} GPUs do not "
            f"fit: this process may use {cores} cores"
            + (f" and {gpus} GPUs" if share.gpus else "")
            + ". Ask for less with --workers, --cpus-per-worker or --gpus-per-worker."
        )
    return partial(_answered, workers, share)


def _gpus() -> int:
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return len([each for each in visible.split(",") if each.strip() not in ("", "-1")])
    return len(list(Path("/proc/driver/nvidia/gpus").glob("*")))


def _answered(workers: int, share: Share, job: Job, images: Sequence[ImageFile]) -> Iterator[Any]:
    tasks = tasks_of(images, workers)
    with contextlib.closing(Pool(min(workers, len(tasks)), share, job)) as pool:
        yield from pool.answered(deque(tasks))


class _Worker:
    """A process, and what it was given."""

    def __init__(self, number: int, share: Share, job: Job) -> None:
        self.number = number
        self.tasks: deque[Task] = deque()
        self.is_ready = False
        self.connection, theirs = multiprocessing.Pipe()
        device = f"cuda:{int(number * share.gpus)}" if share.gpus else None
        arguments = (theirs, job, share.cpus, device)
        # A fork would copy threads and locks of whatever reads addresses.
        process = multiprocessing.get_context("spawn").Process
        self.process = process(target=_work, args=arguments, daemon=True)
        with _threads(share.cpus):
            self.process.start()
        theirs.close()

    def give(self, task: Task) -> None:
        """Hand a task over; where the process has ended, waiting for it tells."""
        self.tasks.append(task)
        with contextlib.suppress(OSError):
            self.connection.send(task)

    def end(self) -> int | None:
        """End it; returns its exit code, which is negative for a signal."""
        self.connection.close()
        self.process.kill()
        self.process.join()
        return self.process.exitcode


class Pool:
    """Processes that answer one job."""

    def __init__(self, workers: int, share: Share, job: Job) -> None:
        self._share, self._job = share, job
        self._workers = [_Worker(number, share, job) for number in range(workers)]
        self._ended_by: Counter[str] = Counter()
        self._starts_failed = self._ended = 0

    def close(self) -> None:
        """End them."""
        for worker in self._workers:
            worker.end()

    def answered(self, todo: deque[Task]) -> Iterator[Any]:
        """The rows of tasks, as they are done.

        Raises:
            ArchiveRefused: a process cannot load the archive.
            WorkersFailed: too many end.
        """
        while todo or any(worker.tasks for worker in self._workers):
            for ahead in range(1, _AHEAD + 1):  # everybody has one before anybody has two
                for worker in self._workers:
                    if todo and len(worker.tasks) < ahead:
                        worker.give(todo.popleft())
            by_connection = {worker.connection: worker for worker in self._workers}
            for connection in wait(list(by_connection)):
                assert isinstance(connection, Connection)
                worker = by_connection[connection]
                try:
                    said = connection.recv()
                except (EOFError, OSError):
                    yield from self._replaced(worker, todo)
                    continue
                if isinstance(said, Exception):
                    raise said
                if said is None:
                    worker.is_ready, self._starts_failed = True, 0
                else:
                    worker.tasks.popleft()
                    yield said

    def _replaced(self, worker: _Worker, todo: deque[Task]) -> Iterator[Any]:
        """Start another process; gives the row of an image that has an error now."""
        self._workers.remove(worker)
        how = _how(worker.end())
        self._ended += 1
        self._starts_failed += not worker.is_ready
        if self._starts_failed == _MOST_STARTS_FAILED or self._ended == _MOST_ENDED:
            when = "while they loaded the archive" if not worker.is_ready else "one after another"
            raise WorkersFailed(
                f"{self._ended} workers ended {when}, the last {how}. Probably memory is short: "
                "use fewer --workers. The same command goes on where this one was."
            )
        suspect, *others = worker.tasks or ([],)
        todo.extendleft(reversed(others))
        if len(suspect) == 1:
            self._ended_by[suspect[0].name] += worker.is_ready
        if len(suspect) == 1 and self._ended_by[suspect[0].name] == 2:
            why = (
                f"Two workers ended on this image, the last {how}: memory, or a fault in a library."
            )
            row = failed(suspect[0].name, WORKER_ENDED, why)
            yield pa.Table.from_pylist([row], self._job.schema)
        else:
            todo.extendleft([image] for image in reversed(suspect))
        self._workers.append(_Worker(worker.number, self._share, self._job))


def _how(code: int | None) -> str:
    if code is None or code >= 0:
        return f"with exit status {code}"
    try:
        return f"by {signal.Signals(-code).name}"
    except ValueError:
        return f"by signal {-code}"


@contextlib.contextmanager
def _threads(count: int) -> Iterator[None]:
    """Processes that start within have so many threads in libraries that count cores themselves."""
    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = str(count)
    try:
        yield
    finally:
        if before is None:
            del os.environ["OMP_NUM_THREADS"]
        else:
            os.environ["OMP_NUM_THREADS"] = before


def _work(connection: Connection, job: Job, threads: int, device: str | None) -> None:
    """A process: answer tasks until nobody gives any more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for who gives tasks
    with contextlib.suppress(EOFError, OSError):
        try:
            answerer = Answerer(job, threads, device)
        except LoadError as error:
            connection.send(ArchiveRefused(str(error)))
            return
        connection.send(None)
        while True:
            connection.send(answerer.answer(connection.recv()))
