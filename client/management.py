"""Talk to TorchServe's management API: register, describe, scale, unregister.

What it does not wait for itself is waited for here: until a model can really answer, of which /ping
says nothing (it says Healthy while workers crash), and until one has answered what it was asked.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from d2serve.client.archive_checks import check_archive
from d2serve.client.connection.settings import ConnectionSettings
from d2serve.client.draining import Drain
from d2serve.client.errors import ModelNotFound, StillBusy, WorkersNotReady
from d2serve.client.management_api import ManagementApi, model_path
from d2serve.client.model_descriptions import ModelDescription
from d2serve.client.readiness import wait_ready

if TYPE_CHECKING:
    from typing_extensions import Unpack

ALL_VERSIONS = "all"
READY_SECONDS = 300.0
DRAIN_SECONDS = 30.0


class ManagementClient(ManagementApi):
    """Client of the management address. ``token`` is the management token of key_file.json."""

    def __init__(
        self,
        address: str | None = None,
        *,
        model_store: str | os.PathLike[str] | None = None,
        **settings: Unpack[ConnectionSettings],
    ) -> None:
        """
        Args:
            address: see Client.
            model_store: the server's, where it is on this machine: archives are then checked
                before they are registered, as TorchServe says of a bad one little more than that
                a worker died.
            **settings: see Client.
        """
        super().__init__(address, **settings)
        self._model_store = None if model_store is None else Path(model_store)

    def register(
        self,
        url: str,
        *,
        model_name: str | None = None,
        initial_workers: int = 1,
        batch_size: int | None = None,
        max_batch_delay: int | None = None,
        response_timeout: int | None = None,
        ready_seconds: float = READY_SECONDS,
    ) -> ModelDescription:
        """Register ``url``, the name of a .mar in the model store, and wait until it can answer.

        Others are answered meanwhile, which they are not where TorchServe itself is made to wait
        (``synchronous=true``).

        Args:
            url: the file's name.
            model_name: None takes the one in the archive.
            initial_workers: the archive's own minWorkers wins over it.
            batch_size, max_batch_delay, response_timeout: in requests, milliseconds and seconds;
                None leaves what the archive's model-config.yaml says.
            ready_seconds: within which every worker has to be READY; 0 does not wait for them.

        Raises:
            ArchiveRefused: an archive of the client's ``model_store`` that cannot be served.
            WorkersNotReady: its workers die, or are not READY in time. It is unregistered again.
        """
        if (
            self._model_store is not None
            and url == Path(url).name
            and (self._model_store / url).is_file()
        ):
            check_archive(self._model_store / url)
        options = {
            "url": url,
            "model_name": model_name,
            "initial_workers": initial_workers,
            "batch_size": batch_size,
            "max_batch_delay": max_batch_delay,
            "response_timeout": response_timeout,
            "synchronous": "false",
        }
        before = {(each.name, each.version) for each in self._versions(model_name)}
        self._status("POST", "/models", options)
        new = [
            each
            for each in self._versions(model_name)
            if each.url == url and (each.name, each.version) not in before
        ]
        if not new:
            raise ModelNotFound(
                f"{url} was registered, and is gone already: it seems that somebody else has "
                "unregistered it. Register it again."
            )
        registered, name, version = new[0], new[0].name, new[0].version
        if not ready_seconds or not registered.max_workers:
            return registered
        try:
            (ready,) = self.wait_ready(name, ready_seconds, version=version)
        except WorkersNotReady as error:
            self.unregister(name, version, drain_seconds=0)
            raise WorkersNotReady(f"{error} {name} {version} was unregistered again.") from error
        return ready

    def scale(
        self,
        name: str,
        *,
        min_worker: int,
        max_worker: int | None = None,
        version: str | None = None,
        ready_seconds: float = READY_SECONDS,
        drain_seconds: float = DRAIN_SECONDS,
    ) -> ModelDescription:
        """Set the number of workers of a version (None: the default one).

        Args:
            name, min_worker, max_worker, version: what TorchServe is told; it starts
                ``min_worker``, which is also the default of ``max_worker``.
            ready_seconds: within which every worker has to be READY; 0 does not wait for them.
            drain_seconds: within which the version has to be idle before some of its workers end;
                0 ends them at once. What a worker is answering then may fail, and without any
                worker what waits in the queue is never answered.

        Raises:
            StillBusy: it was not idle in time, and has the workers that it had.
            WorkersNotReady: workers die, or are not READY in time. It stays so.
        """
        (before,) = self.describe(name, version)
        most = min_worker if max_worker is None else max_worker
        if most < len(before.workers):
            self._drain(name, before.version, drain_seconds)
        options = {"min_worker": min_worker, "max_worker": most, "synchronous": "false"}
        self._status("PUT", model_path(name, before.version), options)
        if ready_seconds and min_worker:
            self.wait_ready(name, ready_seconds, version=before.version)
        (after,) = self.describe(name, before.version)
        return after

    def unregister(
        self, name: str, version: str | None = None, *, drain_seconds: float = DRAIN_SECONDS
    ) -> str:
        """Unregister a version (None: the default one, refused while there are others).

        It has to be idle within ``drain_seconds``, otherwise StillBusy is raised and it stays. 0
        unregisters it at once: what is then in its queue or its workers is never answered.
        """
        self._drain(name, version, drain_seconds)
        return self._status("DELETE", model_path(name, version))

    def wait_ready(
        self, name: str, timeout: float = READY_SECONDS, *, version: str | None = None
    ) -> list[ModelDescription]:
        """Wait until every worker of a model is READY (``version`` "all": of every version).

        Raises WorkersNotReady after ``timeout`` seconds, or as soon as workers keep dying.
        """
        return wait_ready(lambda: self.describe(name, version), name, timeout)

    def wait_idle(self, name: str, timeout: float, *, version: str | None = None) -> bool:
        """Wait until a version's queue is empty and none of its workers is busy (``version``
        "all": of every version): nothing is then lost if its workers end.

        False when it is still at work after ``timeout`` seconds. Where several workers serve an
        archive that cannot tell whether they are busy, one of an earlier d2serve or of another
        handler, it is taken for idle once its queue was empty for 5 seconds.
        """
        return Drain(self, timeout).wait(lambda: [(name, version)])

    def _versions(self, name: str | None) -> list[ModelDescription]:
        """Every version of a model, of all models without a name."""
        found: list[ModelDescription] = []
        for each in self.list_models() if name is None else [name]:
            with contextlib.suppress(ModelNotFound):
                found += self.describe(each, ALL_VERSIONS)
        return found

    def _drain(self, name: str, version: str | None, seconds: float) -> None:
        drain = Drain(self, seconds)
        if seconds and not drain.wait(lambda: [(name, version)]):
            raise StillBusy(
                f"{name} {version or '(its default version)'} was not idle within {seconds:g} s: "
                f"{drain.load.waiting} requests wait and {drain.load.busy} workers are busy. "
                "Nothing was changed, as they would have been lost. Send it no more requests (make "
                "another version the default), give it more drain_seconds, or lose them: "
                "drain_seconds=0."
            )

    def __enter__(self) -> ManagementClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
