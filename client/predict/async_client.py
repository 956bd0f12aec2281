"""Predict over HTTP from asyncio: the same arguments, answers and errors as D2ServeClient.

async with AsyncD2ServeClient(key_file="key_file.json") as client:
    predictions = await asyncio.gather(*(client.predict("shapes", image) for image in images))
"""

from __future__ import annotations

import os
from typing import Any

import httpx

from d2serve.client.credentials import Credentials
from d2serve.client.predict.http_client import (
    DEFAULT_INFERENCE_ADDRESS,
    DEFAULT_TIMEOUT_SECONDS,
    accepted,
    connection_options,
    health,
    image_request,
    predict_path,
    request_id_of,
    unavailable,
    with_scheme,
)
from d2serve.client.predict.image_input import ImageInput, encode_image
from d2serve.client.predict.options import Classes, picture_options, reply_options
from d2serve.client.predict.pictures import parse_picture
from d2serve.client.predict.retrying import DEFAULT_RETRY, Retry
from d2serve.client.results.responses import Prediction, parse_prediction


class AsyncD2ServeClient:
    """D2ServeClient for asyncio: the same arguments, answers and errors."""

    def __init__(
        self,
        address: str = DEFAULT_INFERENCE_ADDRESS,
        *,
        token: str | None = None,
        key_file: str | os.PathLike[str] | None = None,
        timeout: float = DEFAULT_TIMEOUT_SECONDS,
        retry: Retry = DEFAULT_RETRY,
    ) -> None:
        self.address = with_scheme(address)
        self._credentials = Credentials.of("inference", token, key_file)
        self._retry = retry
        self._http = httpx.AsyncClient(**connection_options(self.address, timeout))

    async def predict(
        self,
        model: str,
        image: ImageInput,
        *,
        version: str | None = None,
        array_format: str = "BGR",
        score_thresh: float | None = None,
        max_detections: int | None = None,
        classes: Classes | None = None,
        masks: str = "rle",
        sem_seg: str = "png",
    ) -> Prediction:
        """See D2ServeClient.predict."""
        content = encode_image(image, array_format=array_format)
        options = reply_options(
            score_thresh=score_thresh,
            max_detections=max_detections,
            classes=classes,
            masks=masks,
            sem_seg=sem_seg,
        )
        response = await self._answer(model, version, content, options)
        return parse_prediction(response.content, request_id=request_id_of(response))

    async def predict_picture(
        self,
        model: str,
        image: ImageInput,
        *,
        format: str = "png",
        version: str | None = None,
        array_format: str = "BGR",
        score_thresh: float | None = None,
        max_detections: int | None = None,
        classes: Classes | None = None,
        masks: str = "rle",
    ) -> bytes:
        """See D2ServeClient.predict_picture."""
        content = encode_image(image, array_format=array_format)
        options = picture_options(
            format,
            score_thresh=score_thresh,
            max_detections=max_detections,
            classes=classes,
            masks=masks,
        )
        response = await self._answer(model, version, content, options)
        return parse_picture(response.content, format)

    async def ping(self) -> str:
        """See D2ServeClient.ping."""
        response = await self._request("GET", "/ping", headers=self._credentials.headers())
        return health(response, self._credentials)

    async def aclose(self) -> None:
        await self._http.aclose()

    async def _answer(
        self, model: str, version: str | None, content: bytes, options: dict[str, bytes]
    ) -> httpx.Response:
        path = predict_path(model, version)
        request = image_request(content, options, self._credentials)

        async def ask() -> httpx.Response:
            return accepted(await self._request("POST", path, **request), self._credentials)

        return await self._retry.call_async(ask)

    async def _request(self, method: str, path: str, **request: Any) -> httpx.Response:
        try:
            return await self._http.request(method, path, **request)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise unavailable(self.address, error) from error

    async def __aenter__(self) -> AsyncD2ServeClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()
