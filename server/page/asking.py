"""What the page's server asks TorchServe, with the tokens that no browser sees."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx

from d2serve.client.connection.asking import Headers, ask_once
from d2serve.client.connection.http import (
    accepted,
    extensions,
    httpx_options,
    unavailable_error,
)
from d2serve.client.connection.retrying import NO_RETRY
from d2serve.client.connection.settings import Connection
from d2serve.client.errors import AuthorizationError, ClientError
from d2serve.client.management import ManagementClient
from d2serve.client.predict.http_client import http_form
from d2serve.client.predict.requests import PredictRequest
from d2serve.server.torchserve.clients import ReachableServer
from d2serve.server.torchserve.curl import address_for_clients, curl_start
from d2serve.server.torchserve.models_look import ModelLook

_METADATA_SECONDS = 5.0
"""The question waits in the queue of its model, as a request does."""


class AskedServer:
    """A TorchServe that runs, as the page sees it. May be used from several threads."""

    def __init__(self, server: ReachableServer, key_file: Path | None) -> None:
        """
        Args:
            server: which runs.
            key_file: with its tokens, where people find it; None where it asks for none.
        """
        self._curl = {"start": curl_start(server, key_file), "address": address_for_clients(server)}
        self._look = ModelLook(server)
        self._management = ManagementClient(
            server.management_address,
            key_file=server.key_file,
            timeout=_METADATA_SECONDS,
            retry=NO_RETRY,
        )
        self._connection = Connection(
            "inference", server.inference_address, **server.listening.of_clients(server.key_file)
        )
        self._http = httpx.Client(**httpx_options(self._connection))

    def models(self) -> dict[str, Any]:
        """Every registered version by its model, and what goes with all of them.

        Raises:
            ClientError: TorchServe does not answer.
        """
        models: dict[str, list[dict[str, Any]]] = {}
        for state in self._look.states():
            models.setdefault(state.name, []).append(
                {
                    "version": state.version,
                    "is_default": state.is_default,
                    "is_ready": state.ready > 0,
                }
            )
        return {"models": models, "curl": self._curl}

    def about(self, model: str, version: str) -> dict[str, Any]:
        """What the page has to know of a version: nothing, where its handler says nothing.

        Raises:
            ClientError: it is not there, or busy.
        """
        said = self._management.metadata(model, version)
        known = said if isinstance(said, dict) else {}
        return {name: known.get(name) for name in ("family", "score_thresh", "limits")}

    def predict(self, model: str, version: str | None, image: bytes) -> httpx.Response:
        """TorchServe's answer, also where it is an error.

        Args:
            model: the name under which it is registered.
            version: None is the default one.
            image: the file.

        Raises:
            ClientError: there is no answer.
        """
        request = PredictRequest(model, version, image, {})

        def send(headers: Headers) -> httpx.Response:
            try:
                response = self._http.request(
                    **http_form(request, headers, None), extensions=extensions(self._connection)
                )
            except httpx.HTTPError as error:
                raise unavailable_error(self._connection, error) from error
            try:
                return accepted(response, self._connection)
            except AuthorizationError:  # the token was renewed meanwhile: asked again with that
                raise
            except ClientError:
                return response

        return ask_once(self._connection, send)

    def close(self) -> None:
        """Ask no more."""
        self._look.close()
        self._management.close()
        self._http.close()
