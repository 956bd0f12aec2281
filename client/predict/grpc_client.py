"""Predict over gRPC: the same arguments, answers and errors as D2ServeClient.

Two things differ on TorchServe's gRPC and are put right here. A status set by the handler is
ignored, so a rejected image comes back as OK with the error in the body. And a full queue is
INTERNAL instead of 503, told apart only by its message.
"""

from __future__ import annotations

import os
from typing import Any

import grpc

from d2serve.client.credentials import Credentials
from d2serve.client.errors import (
    ClientError,
    NotConnected,
    RequestRejected,
    ServerUnavailable,
)
from d2serve.client.predict.grpc_stubs import PING_METHOD, PREDICTIONS_METHOD, inference_messages
from d2serve.client.predict.http_client import DEFAULT_TIMEOUT_SECONDS, is_loopback
from d2serve.client.predict.image_input import ImageInput, encode_image
from d2serve.client.predict.options import Classes, picture_options, reply_options
from d2serve.client.predict.pictures import parse_picture
from d2serve.client.predict.retrying import DEFAULT_RETRY, Retry
from d2serve.client.replies import (
    envelope_error,
    health_status,
    model_not_found,
    overloaded,
    server_failed,
    too_large,
)
from d2serve.client.results.responses import Prediction, parse_prediction

DEFAULT_GRPC_ADDRESS = "127.0.0.1:7070"
_UNLIMITED = -1

# TorchServe puts the name of its exception at the end of a gRPC status's details.
_NO_SUCH_MODEL = ("ModelNotFoundException", "ModelVersionNotFoundException")
_HANDLER_FAILED = "org.pytorch.serve.http.InternalServerException"
_OVERLOADED = "has no worker to serve inference request"
_NOT_CONNECTED = "failed to connect to all addresses"
_REJECTIONS = (
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
)


class D2ServeGrpcClient:
    """Sends images to TorchServe's gRPC inference address and returns typed answers.

    ``jar`` is TorchServe's model-server.jar, needed only where torchserve is not installed.
    """

    def __init__(
        self,
        address: str = DEFAULT_GRPC_ADDRESS,
        *,
        token: str | None = None,
        key_file: str | os.PathLike[str] | None = None,
        timeout: float = DEFAULT_TIMEOUT_SECONDS,
        retry: Retry = DEFAULT_RETRY,
        jar: str | os.PathLike[str] | None = None,
    ) -> None:
        self.address = address.split("://")[-1].rstrip("/")
        self._timeout = timeout
        self._credentials = Credentials.of("inference", token, key_file)
        self._retry = retry
        self._messages = inference_messages(jar)
        self._channel = grpc.insecure_channel(
            self.address,
            options=[
                ("grpc.max_send_message_length", _UNLIMITED),
                ("grpc.max_receive_message_length", _UNLIMITED),
                ("grpc.enable_http_proxy", int(not is_loopback(f"//{self.address}"))),
            ],
        )
        self._predictions = self._channel.unary_unary(
            PREDICTIONS_METHOD,
            request_serializer=self._messages.predictions_request.SerializeToString,
            response_deserializer=self._messages.prediction_response.FromString,
        )
        self._ping = self._channel.unary_unary(
            PING_METHOD,
            request_serializer=self._messages.empty.SerializeToString,
            response_deserializer=self._messages.health_response.FromString,
        )

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
        """See D2ServeClient.predict."""
        content = encode_image(image, array_format=array_format)
        options = reply_options(
            score_thresh=score_thresh,
            max_detections=max_detections,
            classes=classes,
            masks=masks,
            sem_seg=sem_seg,
        )
        return parse_prediction(self._answer(model, version, content, options))

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
        """See D2ServeClient.predict_picture."""
        content = encode_image(image, array_format=array_format)
        options = picture_options(
            format,
            score_thresh=score_thresh,
            max_detections=max_detections,
            classes=classes,
            masks=masks,
        )
        return parse_picture(self._answer(model, version, content, options), format)

    def ping(self) -> str:
        """See D2ServeClient.ping."""
        return health_status(self._call(self._ping, self._messages.empty()).health)

    def close(self) -> None:
        self._channel.close()

    def _answer(
        self, model: str, version: str | None, content: bytes, options: dict[str, bytes]
    ) -> bytes:
        request = self._messages.predictions_request(
            model_name=model,
            model_version=version or "",
            input={"data": content, **options},
        )

        def ask() -> bytes:
            body = bytes(self._call(self._predictions, request).prediction)
            rejected = envelope_error(body, status=None)
            if rejected is not None:
                raise rejected
            return body

        return self._retry.call(ask)

    def _call(self, method: Any, request: Any) -> Any:
        metadata = tuple(self._credentials.headers().items())
        try:
            return method(request, timeout=self._timeout, metadata=metadata)
        except grpc.RpcError as error:
            raise self._explained(error) from error

    def _explained(self, error: grpc.RpcError) -> ClientError:
        code, details = error.code(), error.details() or ""
        message = details.split("\n")[0]
        if code is grpc.StatusCode.PERMISSION_DENIED:
            return self._credentials.refused()
        if details.endswith(_NO_SUCH_MODEL):
            return model_not_found(message)
        if _OVERLOADED in details:
            return overloaded(message)
        if code is grpc.StatusCode.UNAVAILABLE and not details.endswith(_HANDLER_FAILED):
            kind = NotConnected if _NOT_CONNECTED in details else ServerUnavailable
            return kind(
                f"No answer from {self.address} over gRPC: {message}. Is TorchServe running there? "
                "The gRPC port is not the HTTP one: 7070 by default."
            )
        if code is grpc.StatusCode.DEADLINE_EXCEEDED:
            return ServerUnavailable(
                f"{self.address} did not answer within {self._timeout:g} s. The model may still be "
                "loading or need longer than the client's timeout: raise `timeout`."
            )
        if code is grpc.StatusCode.CANCELLED:
            return too_large(status=None)
        if code in _REJECTIONS:
            return RequestRejected(message, code=code.name, status=None)
        return server_failed(None, message, name=code.name)

    def __enter__(self) -> D2ServeGrpcClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
