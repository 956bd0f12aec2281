"""Predict over HTTP, blocking or asynchronous, with the same arguments and the same answers.

with D2ServeClient(key_file="key_file.json") as client:
    for instance in client.predict("shapes", "image.jpg").instances:
        ...
"""

from __future__ import annotations

import ipaddress
import os
from typing import Any
from urllib.parse import quote, urlsplit

import httpx

from d2serve.client.credentials import Credentials
from d2serve.client.errors import NotConnected, ServerUnavailable
from d2serve.client.image_input import ImageInput, encode_image
from d2serve.client.replies import envelope_error, health_status, http_error
from d2serve.client.reply_options import reply_options
from d2serve.client.responses import Prediction, parse_prediction
from d2serve.client.retrying import DEFAULT_RETRY, Retry

DEFAULT_INFERENCE_ADDRESS = "http://127.0.0.1:8080"
DEFAULT_TIMEOUT_SECONDS = 120.0
"""TorchServe's own default_response_timeout."""
_BYTES = "application/octet-stream"


def is_loopback(address: str) -> bool:
    """Whether an address like ``http://127.0.0.1:8080`` never leaves this machine."""
    host = urlsplit(address).hostname or ""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def with_scheme(address: str) -> str:
    """``host:port`` as a URL; what is one already stays as it is, but for a slash at the end."""
    return (address if "://" in address else f"http://{address}").rstrip("/")


def connection_options(address: str, timeout: float) -> dict[str, Any]:
    """Options shared by every httpx client of this package.

    A proxy named in the environment must not get requests that stay on this machine.
    """
    return {"base_url": address, "timeout": timeout, "trust_env": not is_loopback(address)}


def unavailable(address: str, error: Exception) -> ServerUnavailable:
    """The error for a request that got no answer at all."""
    if isinstance(error, httpx.TimeoutException):
        return ServerUnavailable(
            f"{address} did not answer in time ({type(error).__name__}). The model may still be "
            "loading or need longer than the client's timeout: raise `timeout`."
        )
    kind = NotConnected if isinstance(error, httpx.ConnectError) else ServerUnavailable
    return kind(
        f"No answer from {address}: {error or type(error).__name__}. Is TorchServe running there? "
        "Start it with `d2serve serve`, or give the address it printed."
    )


def _predict_path(model: str, version: str | None) -> str:
    path = f"/predictions/{quote(model, safe='')}"
    return path if version is None else f"{path}/{quote(version, safe='')}"


def _image_request(
    image: ImageInput, array_format: str, sem_seg: str, credentials: Credentials
) -> dict[str, Any]:
    """What httpx is to send: the image as the raw body, or as a form where options go with it."""
    content, options = encode_image(image, array_format=array_format), reply_options(sem_seg)
    if options:
        files = {"data": ("image", content, _BYTES)}
        return {"headers": credentials.headers(), "files": files, "data": options}
    # Without a content type of its own, TorchServe may take the bytes for a form and answer 500.
    return {"headers": {**credentials.headers(), "content-type": _BYTES}, "content": content}


def _accepted(response: httpx.Response, credentials: Credentials) -> bytes:
    if response.status_code >= 400:
        raise http_error(response.status_code, response.content, credentials)
    rejected = envelope_error(response.content, response.status_code)
    if rejected is not None:
        raise rejected
    return response.content


def _health(response: httpx.Response, credentials: Credentials) -> str:
    # An unhealthy server answers 500 with a status, which is an answer and no failure.
    if response.status_code != 500:
        _accepted(response, credentials)
    return health_status(response.content)


class D2ServeClient:
    """Sends images to TorchServe's inference address and returns typed answers.

    Give ``token`` or ``key_file`` (TorchServe's key_file.json), or neither where the server runs
    with token authorization disabled. May be used from several threads. ``retry`` says how long
    an image is sent again while the server's queue is full.
    """

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
        self._http = httpx.Client(**connection_options(self.address, timeout))

    def predict(
        self,
        model: str,
        image: ImageInput,
        *,
        version: str | None = None,
        array_format: str = "BGR",
        sem_seg: str = "png",
    ) -> Prediction:
        """Detect objects in one image: a path, encoded bytes, a PIL image or a uint8 array
        (height, width, 3) in ``array_format``. ``version`` None means the default version.
        ``sem_seg``: what the server is to send of a semantic segmentation, "png" (one label map)
        or "rle" (COCO's run lengths for each class); both give the same ``label_map()``."""
        request = _image_request(image, array_format, sem_seg, self._credentials)

        def ask() -> Prediction:
            response = self._request("POST", _predict_path(model, version), **request)
            return parse_prediction(_accepted(response, self._credentials))

        return self._retry.call(ask)

    def ping(self) -> str:
        """TorchServe's word about itself, e.g. "Healthy". It says so while workers crash, too:
        for readiness use ManagementClient.wait_ready."""
        response = self._request("GET", "/ping", headers=self._credentials.headers())
        return _health(response, self._credentials)

    def close(self) -> None:
        self._http.close()

    def _request(self, method: str, path: str, **request: Any) -> httpx.Response:
        try:
            return self._http.request(method, path, **request)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise unavailable(self.address, error) from error

    def __enter__(self) -> D2ServeClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


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
        sem_seg: str = "png",
    ) -> Prediction:
        """See D2ServeClient.predict."""
        request = _image_request(image, array_format, sem_seg, self._credentials)

        async def ask() -> Prediction:
            response = await self._request("POST", _predict_path(model, version), **request)
            return parse_prediction(_accepted(response, self._credentials))

        return await self._retry.call_async(ask)

    async def ping(self) -> str:
        """See D2ServeClient.ping."""
        response = await self._request("GET", "/ping", headers=self._credentials.headers())
        return _health(response, self._credentials)

    async def aclose(self) -> None:
        await self._http.aclose()

    async def _request(self, method: str, path: str, **request: Any) -> httpx.Response:
        try:
            return await self._http.request(method, path, **request)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise unavailable(self.address, error) from error

    async def __aenter__(self) -> AsyncD2ServeClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()
