"""Predict over HTTP, and see the picture; AsyncD2ServeClient asks and reads in the same way.

with D2ServeClient(key_file="key_file.json") as client:
    for instance in client.predict("shapes", "image.jpg").instances:
        ...
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlsplit

import httpx

from d2serve.client.credentials import Credentials
from d2serve.client.errors import NotConnected, ServerUnavailable
from d2serve.client.predict.image_input import ImageInput, encode_image
from d2serve.client.predict.options import Classes, picture_options, reply_options
from d2serve.client.predict.pictures import parse_picture
from d2serve.client.predict.retrying import DEFAULT_RETRY, Retry
from d2serve.client.replies import envelope_error, health_status, http_error
from d2serve.client.results.responses import Prediction, parse_prediction

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


def predict_path(model: str, version: str | None) -> str:
    """Where images are sent for one version of a model, None for its default."""
    path = f"/predictions/{quote(model, safe='')}"
    return path if version is None else f"{path}/{quote(version, safe='')}"


def image_request(
    content: bytes, options: Mapping[str, bytes], credentials: Credentials
) -> dict[str, Any]:
    """What httpx is to send: the image as the raw body, or as a form where options go with it."""
    if options:
        files = {"data": ("image", content, _BYTES)}
        return {"headers": credentials.headers(), "files": files, "data": options}
    # Without a content type of its own, TorchServe may take the bytes for a form and answer 500.
    return {"headers": {**credentials.headers(), "content-type": _BYTES}, "content": content}


def accepted(response: httpx.Response, credentials: Credentials) -> httpx.Response:
    """The response itself, unless it is an error: then that is raised."""
    status, body, request_id = response.status_code, response.content, request_id_of(response)
    if status >= 400:
        raise http_error(status, body, credentials, request_id)
    rejected = envelope_error(body, status, request_id)
    if rejected is not None:
        raise rejected
    return response


def request_id_of(response: httpx.Response) -> str | None:
    """TorchServe's name for the request, which is in the headers of every answer to one."""
    found = response.headers.get("x-request-id")
    return None if found is None else str(found)


def health(response: httpx.Response, credentials: Credentials) -> str:
    """TorchServe's word about itself."""
    # An unhealthy server answers 500 with a status, which is an answer and no failure.
    if response.status_code != 500:
        accepted(response, credentials)
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
        score_thresh: float | None = None,
        max_detections: int | None = None,
        classes: Classes | None = None,
        masks: str = "rle",
        sem_seg: str = "png",
    ) -> Prediction:
        """Detect objects in one image.

        Args:
            model: the name that it is served under.
            image: a path, encoded bytes, a PIL image or a uint8 array (height, width, 3).
            version: of the model; None is the server's default.
            array_format: "BGR" or "RGB", of an array.
            score_thresh: leaves out instances that score no higher; not below the model's own.
            max_detections: the best so many instances, and proposals.
            classes: names or ids of those that are wanted.
            masks: "rle" (exact), "polygon" (COCO's outlines, holes filled) or "none".
            sem_seg: of a semantic segmentation "png" (one label map) or "rle" (COCO's run lengths
                for each class); both give the same ``label_map()``.

        Raises:
            InvalidInput: nothing was sent, for what no model could be asked for.
            RequestRejected: its subclasses tell why; InvalidOption where this model has no such.
            ModelFailed, ServerFailed, ServerOverloaded, ServerUnavailable, AuthorizationError,
            ModelNotFound, MalformedReply.
        """
        content = encode_image(image, array_format=array_format)
        options = reply_options(
            score_thresh=score_thresh,
            max_detections=max_detections,
            classes=classes,
            masks=masks,
            sem_seg=sem_seg,
        )
        response = self._answer(model, version, content, options)
        return parse_prediction(response.content, request_id=request_id_of(response))

    def predict_picture(
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
        """The image with what ``predict`` would find drawn onto it by the server, as the bytes of
        an image file, "png" or "jpeg": write them to a file, or open them with Pillow.

        By ``masks="none"`` boxes alone are drawn. Arguments and errors are else those of
        ``predict``.
        """
        content = encode_image(image, array_format=array_format)
        options = picture_options(
            format,
            score_thresh=score_thresh,
            max_detections=max_detections,
            classes=classes,
            masks=masks,
        )
        return parse_picture(self._answer(model, version, content, options).content, format)

    def ping(self) -> str:
        """TorchServe's word about itself, e.g. "Healthy". It says so while workers crash, too:
        for readiness use ManagementClient.wait_ready."""
        response = self._request("GET", "/ping", headers=self._credentials.headers())
        return health(response, self._credentials)

    def close(self) -> None:
        self._http.close()

    def _answer(
        self, model: str, version: str | None, content: bytes, options: dict[str, bytes]
    ) -> httpx.Response:
        path = predict_path(model, version)
        request = image_request(content, options, self._credentials)
        return self._retry.call(
            lambda: accepted(self._request("POST", path, **request), self._credentials)
        )

    def _request(self, method: str, path: str, **request: Any) -> httpx.Response:
        try:
            return self._http.request(method, path, **request)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise unavailable(self.address, error) from error

    def __enter__(self) -> D2ServeClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
