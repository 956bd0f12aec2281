"""What TorchServe's management API can be asked, one question a method."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import httpx

from d2serve.client.connection.asking import ask, ask_once
from d2serve.client.connection.client import Client
from d2serve.client.connection.http import (
    accepted,
    extensions,
    httpx_options,
    unavailable_error,
)
from d2serve.client.connection.management_address import DEFAULT_MANAGEMENT_ADDRESS
from d2serve.client.connection.refusals import api_key_error
from d2serve.client.connection.settings import ConnectionSettings
from d2serve.client.errors import AuthorizationError, InvalidInput, MalformedReply
from d2serve.client.model_descriptions import (
    ModelDescription,
    parse_description,
    parse_metadata,
    parse_model_list,
)

if TYPE_CHECKING:
    from typing_extensions import Unpack


class ManagementApi(Client):
    """Asks the management address. ``token`` is the management token of key_file.json."""

    default_address = DEFAULT_MANAGEMENT_ADDRESS
    token_kind = "management"

    def __init__(self, address: str | None = None, **settings: Unpack[ConnectionSettings]) -> None:
        """See Client."""
        super().__init__(address, **settings)
        self._http = httpx.Client(**httpx_options(self._connection))

    def describe(self, name: str, version: str | None = None) -> list[ModelDescription]:
        """The default version of a model, the given one, or with ``"all"`` every version."""
        answer = self._request("GET", model_path(name, version))
        if not isinstance(answer, list):
            raise MalformedReply(f"Expected a list of model versions, got {answer!r}")
        return [parse_description(item) for item in answer]

    def metadata(
        self, name: str, version: str | None = None, *, timeout: float | None = None
    ) -> Any:
        """What the model says of itself; None if its handler has no answer to that.

        The question waits in the queue as a request does, for ``timeout`` seconds at most, by
        default those of this client. It is asked once.
        """
        path, asked = model_path(name, version), {"customized": "true"}
        return parse_metadata(self._request("GET", path, asked, timeout=timeout, once=True))

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

    def set_default(self, name: str, version: str) -> str:
        """Make a version the one that answers when a request names none."""
        return self._status("PUT", f"{model_path(name, version)}/set-default")

    def renew_token(self, kind: str, *, api_key: str | None = None) -> None:
        """Have TorchServe write a fresh ``"inference"`` or ``"management"`` token into its
        key_file.json; the old one ends with it.

        ``api_key`` is the one of that file; None reads it from this client's ``key_file``. It
        never expires.
        """
        key_file = self._connection.credentials.key_file
        if api_key is None:
            if key_file is None:
                raise InvalidInput(
                    "Renewing a token needs the API key, which is in TorchServe's key_file.json: "
                    "make this client with key_file instead of a token, or give api_key."
                )
            api_key = key_file.api
        else:
            key_file = None
        headers = {**self._connection.own_headers, "authorization": f"Bearer {api_key}"}
        try:
            self._send("GET", "/token", {"type": kind}, headers)
        except AuthorizationError:
            raise api_key_error(key_file) from None

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
        once: bool = False,
    ) -> Any:
        """The answer, parsed; with ``once``, a server that is full is not asked again."""
        response = (ask_once if once else ask)(
            self._connection, lambda headers: self._send(method, path, options, headers, timeout)
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
                extensions=extensions(self._connection),
            )
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise unavailable_error(self._connection, error) from error
        return accepted(response, self._connection)


def model_path(name: str, version: str | None) -> str:
    """That of a version; without one, of the default version."""
    path = f"/models/{quote(name, safe='')}"
    return path if version is None else f"{path}/{quote(version, safe='')}"
