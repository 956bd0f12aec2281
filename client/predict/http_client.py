"""Predict over HTTP, and the form of a request there, which is the same for asyncio.

with D2ServeClient(key_file="key_file.json") as client:
    for instance in client.predict("shapes", "image.jpg").instances:
        ...
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import httpx

from d2serve.client.connection.asking import Headers, ask_once
from d2serve.client.connection.http import (
    accepted,
    extensions,
    httpx_options,
    request_id_of,
    unavailable_error,
)
from d2serve.client.connection.server_errors import health_status
from d2serve.client.connection.settings import Connection, ConnectionSettings
from d2serve.client.predict.blocking import BlockingClient
from d2serve.client.predict.requests import PredictRequest, Reply
from d2serve.handlers.requests.deadline import HEADER as DEADLINE

if TYPE_CHECKING:
    from typing_extensions import Unpack

DEFAULT_INFERENCE_ADDRESS = "http://127.0.0.1:8080"
_BYTES = "application/octet-stream"


def http_form(request: PredictRequest, headers: Headers, deadline: str | None) -> dict[str, Any]:
    """What httpx is to send: the image as the raw body, or as a form where options go with it."""
    headers = headers if deadline is None else {DEADLINE: deadline, **headers}
    path = f"/predictions/{quote(request.model, safe='')}"
    if request.version is not None:
        path += f"/{quote(request.version, safe='')}"
    form: dict[str, Any] = {"method": "POST", "url": path}
    if request.options:
        files = {"data": ("image", request.image, _BYTES)}
        return {**form, "headers": headers, "files": files, "data": request.options}
    # Without a content type of its own, TorchServe may take the bytes for a form and answer 500.
    return {**form, "headers": {**headers, "content-type": _BYTES}, "content": request.image}


def reply_of(response: httpx.Response, connection: Connection) -> Reply:
    """The answer to a request for a prediction, unless it is an error: then that is raised."""
    answer = accepted(response, connection)
    return Reply(answer.content, request_id_of(answer))


def health(response: httpx.Response, connection: Connection) -> str:
    """TorchServe's word about itself."""
    # An unhealthy server answers 500 with a status, which is an answer and no failure.
    if response.status_code != 500:
        accepted(response, connection)
    return health_status(response.content)


class D2ServeClient(BlockingClient):
    """Sends images to TorchServe's inference address and returns typed answers.

    Give ``token`` or ``key_file`` (TorchServe's key_file.json), or neither where the server runs
    with token authorization disabled. May be used from several threads.
    """

    default_address = DEFAULT_INFERENCE_ADDRESS

    def __init__(self, address: str | None = None, **settings: Unpack[ConnectionSettings]) -> None:
        super().__init__(address, **settings)
        self._http = httpx.Client(**httpx_options(self._connection))

    def ping(self) -> str:
        def send(headers: Headers) -> str:
            response = self._request(method="GET", url="/ping", headers=headers)
            return health(response, self._connection)

        return ask_once(self._connection, send)

    def close(self) -> None:
        self._http.close()

    def _send(self, request: PredictRequest, headers: Headers, deadline: str | None) -> Reply:
        response = self._request(**http_form(request, headers, deadline))
        return reply_of(response, self._connection)

    def _request(self, **request: Any) -> httpx.Response:
        try:
            return self._http.request(**request, extensions=extensions(self._connection))
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise unavailable_error(self._connection, error) from error
