"""Which versions a running TorchServe has, asked over its management API."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from d2serve.client.connection.retrying import NO_RETRY
from d2serve.client.errors import AuthorizationError, ModelNotFound, ServerUnavailable
from d2serve.client.management import ALL_VERSIONS, ManagementClient
from d2serve.client.model_descriptions import ModelDescription
from d2serve.server.torchserve.clients import ReachableServer

_TIMEOUT_SECONDS = 1.0
"""Of one request. TorchServe answers within milliseconds, unless one of its few network threads
registers a model synchronously: the next connection is another thread's."""
_ATTEMPTS = 2


@dataclass(frozen=True)
class VersionState:
    """One registered version of a model at one moment."""

    name: str
    version: str
    is_default: bool
    min_workers: int
    ready: int
    """How many of its workers are READY."""

    @property
    def key(self) -> tuple[str, str]:
        return self.name, self.version


class ModelLook:
    """Asks what is registered, over a connection of its own with a short timeout."""

    def __init__(self, server: ReachableServer) -> None:
        self._client = ManagementClient(
            server.management_address,
            key_file=server.key_file,
            timeout=_TIMEOUT_SECONDS,
            retry=NO_RETRY,
        )

    def states(self) -> list[VersionState]:
        """Every registered version.

        Raises:
            ServerUnavailable: TorchServe did not answer.
            ClientError: it answered something else.
        """
        for _ in range(_ATTEMPTS - 1):
            try:
                return list(self._states())
            except ServerUnavailable:
                continue
            except AuthorizationError:  # whoever renews the tokens has not: the API key still does
                self._client.renew_token("management")
        return list(self._states())

    def close(self) -> None:
        self._client.close()

    def _states(self) -> Iterator[VersionState]:
        for name in self._client.list_models():
            try:
                described = self._client.describe(name, ALL_VERSIONS)
                default = self._default(name, described)
            except ModelNotFound:  # unregistered meanwhile
                continue
            for version in described:
                yield VersionState(
                    name,
                    version.version,
                    version.version == default,
                    version.min_workers,
                    sum(worker.is_ready for worker in version.workers),
                )

    def _default(self, name: str, described: list[ModelDescription]) -> str:
        if len(described) == 1:
            return described[0].version
        return self._client.describe(name)[0].version
