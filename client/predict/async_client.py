"""Predict over HTTP from asyncio: the same arguments, answers and errors as D2ServeClient.

async with AsyncD2ServeClient(key_file="key_file.json") as client:
    predictions = await asyncio.gather(*(client.predict("shapes", image) for image in images))

Whatever reads a file or encodes pixels runs in a thread, so that the event loop goes on.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import httpx

from d2serve.client.connection.asking import Headers, ask_async, ask_once_async
from d2serve.client.connection.client import Client
from d2serve.client.connection.http import extensions, httpx_options, unavailable_error
from d2serve.client.connection.settings import ConnectionSettings
from d2serve.client.predict.http_client import (
    DEFAULT_INFERENCE_ADDRESS,
    health,
    http_form,
    reply_of,
)
from d2serve.client.predict.image_input import ImageInput
from d2serve.client.predict.options import PictureOptions, PredictOptions
from d2serve.client.predict.requests import (
    PredictRequest,
    Reply,
    picture_request,
    prediction_request,
)
from d2serve.client.results.prediction import Prediction

if TYPE_CHECKING:
    from typing_extensions import Unpack


class AsyncD2ServeClient(Client):
    """D2ServeClient for asyncio: the same arguments, answers and errors."""

    default_address = DEFAULT_INFERENCE_ADDRESS

    def __init__(self, address: str | None = None, **settings: Unpack[ConnectionSettings]) -> None:
        super().__init__(address, **settings)
        self._http = httpx.AsyncClient(**httpx_options(self._connection))

    async def predict(
        self,
        model: str,
        image: ImageInput,
        *,
        version: str | None = None,
        array_format: str = "BGR",
        **options: Unpack[PredictOptions],
    ) -> Prediction:
        """See D2ServeClient.predict."""
        request = await asyncio.to_thread(
            prediction_request, model, image, version, array_format, **options
        )
        return (await self._ask(request)).prediction()

    async def predict_picture(
        self,
        model: str,
        image: ImageInput,
        *,
        format: str = "png",
        version: str | None = None,
        array_format: str = "BGR",
        **options: Unpack[PictureOptions],
    ) -> bytes:
        """See D2ServeClient.predict_picture."""
        request = await asyncio.to_thread(
            picture_request, model, image, format, version, array_format, **options
        )
        return (await self._ask(request)).picture(format)

    async def ping(self) -> str:
        """See D2ServeClient.ping."""

        async def send(headers: Headers) -> str:
            response = await self._request(method="GET", url="/ping", headers=headers)
            return await asyncio.to_thread(health, response, self._connection)

        return await ask_once_async(self._connection, send)

    async def aclose(self) -> None:
        """Close the connections; the client cannot be used after it."""
        await self._http.aclose()

    async def _ask(self, request: PredictRequest) -> Reply:
        deadlines = self._connection.deadlines
        return await ask_async(
            self._connection,
            lambda headers: deadlines.call_async(lambda by: self._send(request, headers, by)),
        )

    async def _send(self, request: PredictRequest, headers: Headers, deadline: str | None) -> Reply:
        response = await self._request(**http_form(request, headers, deadline))
        # In a thread, since a refused token is looked up in the key file.
        return await asyncio.to_thread(reply_of, response, self._connection)

    async def _request(self, **request: Any) -> httpx.Response:
        try:
            return await self._http.request(**request, extensions=extensions(self._connection))
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise unavailable_error(self._connection, error) from error

    async def __aenter__(self) -> AsyncD2ServeClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()
