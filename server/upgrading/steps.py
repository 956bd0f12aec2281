"""The steps of an upgrade, and the way back from each.

Until the old version is taken away it stays registered, and its workers stay up: whatever fails
before that leaves it answering.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from d2serve.client.errors import ClientError, ModelNotFound, RequestRejected
from d2serve.client.management import ALL_VERSIONS, ManagementClient
from d2serve.client.model_descriptions import ModelDescription
from d2serve.client.predict.http_client import D2ServeClient
from d2serve.server.upgrading.checking import Sample, check
from d2serve.server.upgrading.newcomer import Newcomer


class UpgradeFailed(ClientError):
    """The upgrade cannot be done, or what was done cannot be undone."""


class OldStays(ClientError):
    """The new version answers, and the old one could not be retired."""


@dataclass(frozen=True)
class Wishes:
    """How an upgrade is to go."""

    sample: Sample
    timeout: float
    """Seconds within which each worker must be READY."""
    drain_seconds: float
    """Seconds within which the old version must have answered what it was asked."""
    keep_old: bool
    """Whether the old version stays registered."""


class Upgrade:
    """One upgrade of one model: call old(), switch() and retire(), once each."""

    def __init__(
        self,
        management: ManagementClient,
        client: D2ServeClient,
        name: str,
        newcomer: Newcomer,
        wishes: Wishes,
        on_step: Callable[[str], None],
    ) -> None:
        """
        Args:
            management, client: of the server.
            name: under which the model is served.
            newcomer: the new version's archive.
            wishes: how it is to go.
            on_step: is called with a few words on what is being done.
        """
        self._management = management
        self._client = client
        self._name = name
        self._newcomer = newcomer
        self._version = newcomer.version
        self._wishes = wishes
        self._on_step = on_step
        self._may_be_registered = False
        self._is_switched = False
        self._is_idle = False

    def old(self) -> ModelDescription:
        """The version that answers now.

        Raises:
            UpgradeFailed: there is no such model, or the new version is there already.
        """
        try:
            (default,) = self._management.describe(self._name)
        except ModelNotFound as error:
            served = ", ".join(sorted(self._management.list_models())) or "none"
            raise UpgradeFailed(
                f"No model {self._name} is served, so there is nothing to upgrade. Models that "
                f"are: {served}. Register a new one over the management API."
            ) from error
        versions = self._versions()
        if self._version in versions:
            state = "answers already" if self._version == default.version else "is registered"
            raise UpgradeFailed(
                f"Version {self._version} of {self._name} {state}: expected an archive of another "
                f"version than {', '.join(versions)}. Export it with another --version; one that "
                "was left over is taken away with ManagementClient.unregister."
            )
        return default

    def switch(self, url: str, old: ModelDescription, old_archive: Path | None) -> int | None:
        """Register the new version, check it, let it answer, and wait until the old one is idle.

        Args:
            url: the new archive's file name in the server's model store.
            old: what ``old()`` gave.
            old_archive: its archive, where that can be read here.

        Returns:
            How many instances the new version found; None of a model that answers none.

        Raises:
            UpgradeFailed: it failed, and could not be rolled back.
            ClientError: it failed, and was rolled back.
        """
        try:
            self._register(url, old, old_archive)
            self._on_step(f"checking {self._version} with {self._wishes.sample.name}")
            found = self._check(old.min_workers)
            self._on_step(f"letting {self._version} answer")
            self._is_switched = True
            self._management.set_default(self._name, self._version)
            if not self._wishes.keep_old:
                self._is_idle = self._drain(old.version)
        except BaseException as error:  # Ctrl-C as well
            self._roll_back(old.version, error)
            raise
        return found

    def retire(self, old: str) -> None:
        """Take the old version away.

        Raises:
            OldStays: it is still busy, or the server does not do it.
        """
        done = f"Version {self._version} of {self._name} answers now"
        if not self._is_idle:
            raise OldStays(
                f"{done}, and {old} is still busy after {self._wishes.drain_seconds:g} s, so "
                "it stays registered: requests wait for it, or somebody asks for that version by "
                "number. Take it away with ManagementClient.unregister when it is idle."
            )
        self._on_step(f"retiring {old}")
        try:
            self._management.unregister(self._name, old, drain_seconds=0)
        except ClientError as error:
            raise OldStays(f"{done}, and {old} could not be taken away: {error}") from error

    def _register(self, url: str, old: ModelDescription, old_archive: Path | None) -> None:
        batching = self._newcomer.batching(old, old_archive)
        fewest, most = self._newcomer.workers or (max(1, old.min_workers), old.max_workers)
        self._on_step(f"loading {self._version}")
        self._may_be_registered = True
        try:
            # One worker to begin with: it shows whether the archive works at all, and loading takes
            # cores away from those that answer.
            self._management.register(
                url,
                model_name=self._name,
                initial_workers=1,
                ready_seconds=self._wishes.timeout,
                **batching,
            )
        except (RequestRejected, ModelNotFound):
            self._may_be_registered = False
            raise
        if self._newcomer.workers is not None:  # it has them all by its own model-config.yaml
            return
        for workers in range(2, fewest + 1):
            self._on_step(f"loading worker {workers} of {fewest} of {self._version}")
            self._scale(workers, workers)
        if most > fewest:
            self._scale(fewest, most)

    def _scale(self, fewest: int, most: int) -> None:
        self._management.scale(
            self._name,
            min_worker=fewest,
            max_worker=most,
            version=self._version,
            ready_seconds=self._wishes.timeout,
        )

    def _check(self, times: int) -> int | None:
        newcomer, wishes = self._newcomer, self._wishes
        return check(
            self._client, self._name, self._version, wishes.sample, newcomer.spec, max(1, times)
        )

    def _drain(self, version: str) -> bool:
        self._on_step(f"waiting until {version} has answered what it was asked")
        seconds = self._wishes.drain_seconds
        return self._management.wait_idle(self._name, seconds, version=version)

    def _roll_back(self, old: str, cause: BaseException) -> None:
        if not self._may_be_registered:
            return
        self._on_step(f"rolling back to {old}")
        try:
            if self._is_switched:
                self._management.set_default(self._name, old)
                self._drain(self._version)
            if self._version in self._versions():
                self._management.unregister(self._name, self._version, drain_seconds=0)
        except ClientError as error:
            raise UpgradeFailed(
                f"{cause or type(cause).__name__} And what was done could not be undone: {error} "
                f"See which versions of {self._name} are registered, and which is the default."
            ) from error

    def _versions(self) -> list[str]:
        return [each.version for each in self._management.describe(self._name, ALL_VERSIONS)]
