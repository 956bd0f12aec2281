"""Talk to TorchServe's management API: register, describe, scale, unregister; and wait until a
model can really answer, of which /ping says nothing (it says Healthy while workers crash).
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import httpx

from d2serve.client.archive_checks import check_archive
from d2serve.client.connection.client import Client
from d2serve.client.connection.http import accepted, httpx_options, unavailable_error
from d2serve.client.connection.retrying import NO_RETRY, Retry
from d2serve.client.connection.settings import ConnectionSettings
from d2serve.client.draining import Drain
from d2serve.client.errors import InvalidInput, MalformedReply, ModelNotFound, ServerUnavailable
from d2serve.client.model_descriptions import (
    ModelDescription,
    parse_description,
    parse_metadata,
    parse_model_list,
)
from d2serve.client.readiness import ReadinessWatch

if TYPE_CHECKING:
    from typing_extensions import Unpack

DEFAULT_MANAGEMENT_ADDRESS = "http://127.0.0.1:8081"
ALL_VERSIONS = "all"
_POLL_SECONDS = 0.3


class ManagementClient(Client):
    """Client of the management address. ``token`` is the management token of key_file.json."""

    default_address = DEFAULT_MANAGEMENT_ADDRESS
    token_kind = "management"

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
        self._http = httpx.Client(**httpx_options(self._connection))

    def register(
        self,
        url: str,
        *,
        model_name: str | None = None,
        initial_workers: int = 1,
        batch_size: int | None = None,
        max_batch_delay: int | None = None,
        response_timeout: int | None = None,
        synchronous: bool = True,
    ) -> str:
        """Register ``url``, the name of a .mar in the model store; return TorchServe's message.

        ``max_batch_delay`` is in milliseconds, ``response_timeout`` in seconds; None leaves what
        the archive's model-config.yaml says. A minWorkers in that file wins over
        ``initial_workers``. ``synchronous`` waits until the workers are up.

        Raises ArchiveRefused for an archive of the client's ``model_store`` that cannot be served.
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
            "synchronous": str(synchronous).lower(),
        }
        return self._status("POST", "/models", options)

    def describe(self, name: str, version: str | None = None) -> list[ModelDescription]:
        """The default version of a model, the given one, or with ``"all"`` every version."""
        answer = self._request("GET", _model_path(name, version))
        if not isinstance(answer, list):
            raise MalformedReply(f"Expected a list of model versions, got {answer!r}")
        return [parse_description(item) for item in answer]

    def scale(
        self,
        name: str,
        *,
        min_worker: int,
        max_worker: int | None = None,
        version: str | None = None,
        synchronous: bool = True,
    ) -> str:
        """Set the number of workers of a model; returns TorchServe's message."""
        options = {
            "min_worker": min_worker,
            "max_worker": min_worker if max_worker is None else max_worker,
            "synchronous": str(synchronous).lower(),
        }
        return self._status("PUT", _model_path(name, version), options)

    def set_default(self, name: str, version: str) -> str:
        """Make a version the one that answers when a request names none."""
        return self._status("PUT", f"{_model_path(name, version)}/set-default")

    def unregister(self, name: str, version: str | None = None) -> str:
        """Unregister a version (None: the default one, refused while there are others)."""
        return self._status("DELETE", _model_path(name, version))

    def list_models(self) -> dict[str, str]:
        """Every registered model's name with the .mar of its default version."""
        models: dict[str, str] = {}
        page: str | None = None
        while True:
            answer = self._object("GET", "/models", {"limit": 100, "next_page_token": page})
            models.update(parse_model_list(answer, self.address))
            page = answer.get("nextPageToken")
            if page is None:
                return models

    def renew_token(self, kind: str) -> None:
        """Have TorchServe write a fresh ``"inference"`` or ``"management"`` token into its
        key_file.json; needs a client made with ``key_file``."""
        key_file = self._connection.credentials.key_file
        if key_file is None:
            raise InvalidInput(
                "Renewing a token needs the API key, which is in TorchServe's key_file.json: make "
                "this client with key_file instead of a token."
            )
        headers = {**self._connection.headers(), "authorization": f"Bearer {key_file.api}"}
        self._send("GET", "/token", {"type": kind}, headers)

    def wait_ready(
        self, name: str, timeout: float = 300.0, *, version: str | None = None
    ) -> list[ModelDescription]:
        """Wait until every worker of a model is READY (``version`` "all": of every version).

        Raises WorkersNotReady after ``timeout`` seconds, or as soon as workers keep dying.
        """
        watch = ReadinessWatch(name)
        deadline = time.monotonic() + timeout
        while True:
            described: list[ModelDescription] = []
            try:
                described = self.describe(name, version)
            except (ModelNotFound, ServerUnavailable):
                if time.monotonic() >= deadline:
                    raise
            if described and all(model.is_ready for model in described):
                return described
            watch.see(
                {f"{m.version}/{w.id}": (w.pid, w.is_ready) for m in described for w in m.workers}
            )
            if time.monotonic() >= deadline:
                raise watch.timed_out(timeout)
            time.sleep(_POLL_SECONDS)

    def wait_idle(self, name: str, timeout: float, *, version: str | None = None) -> bool:
        """Wait until a version's queue is empty and none of its workers is busy (``version``
        "all": of every version): nothing is then lost if its workers end.

        False when it is still at work after ``timeout`` seconds. Where several workers serve an
        archive that cannot tell whether they are busy, one of an earlier d2serve or of another
        handler, it is taken for idle once its queue was empty for 5 seconds.
        """
        return Drain(self, timeout).wait(lambda: [(name, version)])

    def metadata(
        self, name: str, version: str | None = None, *, timeout: float | None = None
    ) -> Any:
        """What the model says of itself; None if its handler has no answer to that.

        The question waits in the queue as a request does, for ``timeout`` seconds at most, by
        default those of this client. It is asked once.
        """
        path, asked = _model_path(name, version), {"customized": "true"}
        return parse_metadata(self._request("GET", path, asked, timeout=timeout, retry=NO_RETRY))

    def close(self) -> None:
        self._http.close()

    def _status(self, method: str, path: str, options: Mapping[str, Any] | None = None) -> str:
        return str(self._object(method, path, options).get("status", ""))

    def _object(
        self, method: str, path: str, options: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        answer = self._request(method, path, options)
        if not isinstance(answer, dict):
            raise MalformedReply(f"Expected an object from {method} {path}, got {answer!r}")
        return answer

    def _request(
        self,
        method: str,
        path: str,
        options: Mapping[str, Any] | None = None,
        *,
        timeout: float | None = None,
        retry: Retry | None = None,
    ) -> Any:
        response = (retry or self._connection.retry).call(
            lambda: self._send(method, path, options, self._connection.headers(), timeout)
        )
        try:
            return response.json()
        except ValueError as error:
            raise MalformedReply(
                f"{self.address} is no TorchServe management API: {method} {path} gave "
                f"{response.text[:200]!r}"
            ) from error

    def _send(
        self,
        method: str,
        path: str,
        options: Mapping[str, Any] | None,
        headers: dict[str, str],
        timeout: float | None = None,
    ) -> httpx.Response:
        query = {key: value for key, value in (options or {}).items() if value is not None}
        try:
            response = self._http.request(
                method,
                path,
                params=query,
                headers=headers,
                timeout=self._connection.timeout if timeout is None else timeout,
            )
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise unavailable_error(self._connection, error) from error
        return accepted(response, self._connection)

    def __enter__(self) -> ManagementClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _model_path(name: str, version: str | None) -> str:
    path = f"/models/{quote(name, safe='')}"
    return path if version is None else f"{path}/{quote(version, safe='')}"
