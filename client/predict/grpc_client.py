"""Predict over gRPC: the same arguments, answers and errors as D2ServeClient.

Two things differ on TorchServe's gRPC and are put right here. A status set by the handler is
ignored, so a rejected image comes back as OK with the error in the body. And a full queue is
INTERNAL instead of 503, recognised by its message alone.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import grpc

from d2serve.client.connection.asking import Headers, ask_once
from d2serve.client.connection.proxy_errors import (
    NOTHING_BEGUN,
    key_refused_error,
    not_begun_error,
)
from d2serve.client.connection.refusals import refusal_error
from d2serve.client.connection.server_errors import (
    envelope_error,
    health_status,
    model_not_found_error,
    no_answer_error,
    overloaded_error,
    server_error,
    too_large_error,
)
from d2serve.client.connection.settings import Connection, ConnectionSettings
from d2serve.client.errors import ClientError, InvalidInput, RequestRejected, ServerUnavailable
from d2serve.client.predict.blocking import BlockingClient
from d2serve.client.predict.grpc_stubs import PING_METHOD, PREDICTIONS_METHOD, inference_messages
from d2serve.client.predict.requests import PredictRequest, Reply
from d2serve.handlers.requests.deadline import NAME as DEADLINE

if TYPE_CHECKING:
    from typing_extensions import Unpack

DEFAULT_GRPC_ADDRESS = "127.0.0.1:7070"
_PORT, _ENCRYPTED_PORT = 7070, 443
_UNLIMITED = -1

# TorchServe puts the name of its exception at the end of a gRPC status's details.
_NO_SUCH_MODEL = ("ModelNotFoundException", "ModelVersionNotFoundException")
_HANDLER_FAILED = "org.pytorch.serve.http.InternalServerException"
_REJECTED = "BadRequestException.()"
_OVERLOADED = "has no worker to serve inference request"
_NOT_CONNECTED = "failed to connect to all addresses"
_REJECTIONS = (
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
)


class D2ServeGrpcClient(BlockingClient):
    """Sends images to TorchServe's gRPC inference address and returns typed answers.

    An address that begins with ``https://`` is asked over TLS, on port 443 if it names none.
    """

    default_address = DEFAULT_GRPC_ADDRESS

    def __init__(
        self,
        address: str | None = None,
        *,
        jar: str | os.PathLike[str] | None = None,
        **settings: Unpack[ConnectionSettings],
    ) -> None:
        """
        Args:
            address: see Client.
            jar: TorchServe's model-server.jar, needed only where torchserve is not installed.
            **settings: see Client.
        """
        super().__init__(address, **settings)
        self._messages = inference_messages(jar)
        self._channel = _channel(self._connection)
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

    def ping(self) -> str:
        message = self._messages.empty()
        answer = ask_once(
            self._connection, lambda headers: self._call(self._ping, message, headers)
        )
        return health_status(answer.health)

    def close(self) -> None:
        self._channel.close()

    def _send(self, request: PredictRequest, headers: Headers, deadline: str | None) -> Reply:
        # TorchServe passes on neither metadata nor the deadline of gRPC itself.
        known = {} if deadline is None else {DEADLINE: deadline.encode("ascii")}
        message = self._messages.predictions_request(
            model_name=request.model,
            model_version=request.version or "",
            input={"data": request.image, **known, **request.options},
        )
        body = bytes(self._call(self._predictions, message, headers).prediction)
        rejected = envelope_error(body, status=None)
        if rejected is not None:
            raise rejected
        return Reply(body)

    def _call(self, method: Any, message: Any, headers: Headers) -> Any:
        metadata = tuple(headers.items())
        try:
            return method(message, timeout=self._connection.timeout, metadata=metadata)
        except grpc.RpcError as error:
            raise _client_error(error, self._connection) from error


def _channel(connection: Connection) -> grpc.Channel:
    parts = connection.parts
    if parts.path:
        raise InvalidInput(
            f"Got the gRPC address {connection.url}, expected one without a path: gRPC has host "
            "and port only."
        )
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    port = parts.port or (_ENCRYPTED_PORT if connection.is_encrypted else _PORT)
    options: list[tuple[str, Any]] = [
        ("grpc.max_send_message_length", _UNLIMITED),
        ("grpc.max_receive_message_length", _UNLIMITED),
        ("grpc.enable_http_proxy", int(not connection.is_loopback)),
    ]
    if connection.server_name is not None:
        options.append(("grpc.ssl_target_name_override", connection.server_name))
    if not connection.is_encrypted:
        return grpc.insecure_channel(f"{host}:{port}", options)
    trusted = grpc.ssl_channel_credentials(connection.root_certificates())
    return grpc.secure_channel(f"{host}:{port}", trusted, options)


def _client_error(error: grpc.RpcError, connection: Connection) -> ClientError:
    """The client's error for a call that failed."""
    code, details = error.code(), error.details() or ""
    message = details.split("\n")[0]
    if code is grpc.StatusCode.PERMISSION_DENIED:
        return refusal_error(connection)
    if code is grpc.StatusCode.UNAUTHENTICATED:
        return key_refused_error(message)
    if details.endswith(_NO_SUCH_MODEL):
        return model_not_found_error(message, connection)
    if NOTHING_BEGUN in details:
        return not_begun_error(message)
    if _OVERLOADED in details:
        return overloaded_error(message)
    if code is grpc.StatusCode.UNAVAILABLE and not details.endswith(_HANDLER_FAILED):
        return no_answer_error(
            f"No answer from {connection.url} over gRPC",
            message,
            "Is TorchServe running there? The gRPC port is not the HTTP one: 7070 by default.",
            not_connected=_NOT_CONNECTED in details,
        )
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return ServerUnavailable(
            f"{connection.url} did not answer within {connection.timeout:g} s. The model may still "
            "be loading or need longer than the client's timeout: raise `timeout`."
        )
    if code is grpc.StatusCode.CANCELLED:
        return too_large_error(status=None)
    if code in _REJECTIONS or details.endswith(_REJECTED):
        return RequestRejected(message, code=code.name, status=None)
    return server_error(None, message, name=code.name)
