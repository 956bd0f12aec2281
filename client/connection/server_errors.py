"""The errors that a server's answers stand for: HTTP, asynchronous HTTP, gRPC and management alike.

TorchServe's own errors are ``{"code": 404, "type": "ModelNotFoundException", "message": "…"}``; the
handler in our archives answers ``{"error": {"code": "invalid_image", "message": "…"}}``, as
do other servers of theirs (d2serve.server.asgi). On gRPC the second kind arrives as status OK, so
it has to be recognised by its body alone.
"""

from __future__ import annotations

from typing import Any

import orjson

from d2serve.client.connection.management_address import management_in_words
from d2serve.client.connection.proxy_errors import proxy_error
from d2serve.client.connection.refusals import refusal_error
from d2serve.client.connection.settings import Connection
from d2serve.client.errors import (
    BY_CODE,
    ClientError,
    ModelNotFound,
    NotConnected,
    RequestRejected,
    ServerFailed,
    ServerOverloaded,
    ServerUnavailable,
    origin,
)

_TOKEN_REFUSED = "InvalidKeyException"
_NO_SUCH_MODEL = ("ModelNotFoundException", "ModelVersionNotFoundException")
_OVERLOADED = "ServiceUnavailableException"
"""503 alone would not do: a handler that raised is a 503 too, as InternalServerException."""
_API_IS_OFF = "MethodNotAllowedException"
_NO_FORM = (
    "ErrorDataDecoderException",
    "StringIndexOutOfBoundsException",
    "ArrayIndexOutOfBoundsException",
)
"""500 for a body that is not the form that its content type says."""


def envelope_error(
    body: bytes, status: int | None, request_id: str | None = None
) -> ClientError | None:
    """The error in a body written by our handler or proxy, or None if there is none in it.

    Args:
        body: of the answer.
        status: HTTP's; None over gRPC, which has none.
        request_id: from HTTP's headers, for bodies of older archives, which have none.
    """
    if not body.lstrip().startswith(b'{"error"'):
        return None
    said = _json_object(body)
    error = said.get("error")
    if not isinstance(error, dict):
        return None
    code, message = str(error.get("code", "unknown")), str(error.get("message", ""))
    request_id = said["request_id"] if isinstance(said.get("request_id"), str) else request_id
    of_the_proxy = proxy_error(code, message)
    if of_the_proxy is not None:
        return of_the_proxy
    if code == "model_not_found":
        return ModelNotFound(message)
    if code == "overloaded":
        return ServerOverloaded(message)
    kind = BY_CODE.get(code)
    if kind is None and status is not None and status >= 500:  # of a newer archive
        return server_error(status, f"{code}: {message}", request_id)
    return (kind or RequestRejected)(message, code=code, status=status, request_id=request_id)


def http_error(
    status: int, body: bytes, connection: Connection, request_id: str | None = None
) -> ClientError:
    """The error that an HTTP answer with a status of 400 or more stands for."""
    ours = envelope_error(body, status, request_id)
    if ours is not None:
        return ours
    said = _json_object(body)
    kind = str(said.get("type", ""))
    message = str(said.get("message") or body.decode("utf-8", "replace")[:500] or "(no message)")
    if kind == _TOKEN_REFUSED:
        return refusal_error(connection)
    if kind in _NO_SUCH_MODEL:
        return model_not_found_error(message, connection)
    if kind == _API_IS_OFF:
        message += (
            " If this registers or unregisters a model: start TorchServe with "
            "--enable-model-api, or set enable_model_api=true in its config.properties."
        )
    elif kind in _NO_FORM:
        message = (
            f"TorchServe could not read the body as a form ({message.split(':')[0]}), which its "
            "Content-Type says it is; curl says so of a body where it is told nothing. Say what "
            'it is: -H "Content-Type: image/jpeg" of an image file, application/json of JSON. Of '
            "a form with files, leave out Content-Transfer-Encoding, or say binary."
        )
    elif kind == _OVERLOADED:
        return overloaded_error(message)
    elif status >= 500:
        return server_error(status, message, request_id)
    elif status == 413 and not body:
        return too_large_error(status)
    return RequestRejected(message, code=kind or "unknown", status=status, request_id=request_id)


def server_error(
    status: int | None, message: str, request_id: str | None = None, name: str | None = None
) -> ServerFailed:
    """For what went wrong on the server's side; ``name`` is that of a gRPC status."""
    where = origin(status, name, request_id)
    return ServerFailed(
        f"The server failed ({where}): {message.rstrip('.')}. Its logs/model_log.log says why.",
        request_id=request_id,
    )


def health_status(body: bytes | str) -> str:
    """TorchServe's word in the answer to a ping: ``{"status": "Healthy"}``."""
    status = _json_object(body).get("status")
    return str(status) if status is not None else "Unknown"


def model_not_found_error(message: str, connection: Connection) -> ClientError:
    """For an unknown model or version, and for a .mar that cannot be registered."""
    if "allowed URL" in message:
        return RequestRejected(
            f"{message}. TorchServe loads models from its model store only: copy the .mar there "
            "and register its bare file name, or widen allowed_urls in config.properties.",
            code="url_not_allowed",
            status=404,
        )
    if message.startswith("Model not found at"):
        return ModelNotFound(
            f"{message}. Expected the bare file name of a .mar in the server's model store."
        )
    return ModelNotFound(
        f"{message}. What is served is listed by GET /models at {management_in_words(connection)}."
    )


def too_large_error(status: int | None) -> RequestRejected:
    """TorchServe cuts such a request off without a word (gRPC: resets the stream)."""
    return RequestRejected(
        "the server cut the request off, most likely as larger than its max_request_size (64 MB in "
        "d2serve's config.properties, 6.5 MB in TorchServe's own). Send the image as JPEG, or "
        "raise max_request_size.",
        code="too_large",
        status=status,
    )


def overloaded_error(message: str) -> ServerOverloaded:
    """TorchServe says the same whether the queue is full or there is no worker at all."""
    reason = message.split(" Please use ")[0]
    return ServerOverloaded(
        f"The server cannot take this request now: {reason} Its queue is full, or its workers are "
        "scaled to none or have died. Try again; if it stays so, scale the workers up, raise "
        "job_queue_size in config.properties, or look in logs/model_log.log."
    )


def no_answer_error(
    what: str, reason: str, what_to_do: str, *, not_connected: bool
) -> ServerUnavailable:
    """For a request that nobody answered; where TLS failed, it says what to do about that."""
    for symptom, advice in _TLS_FAILURES.items():
        if symptom in reason:
            return NotConnected(f"{what}: {reason.rstrip('.')}. {advice}")
    kind = NotConnected if not_connected else ServerUnavailable
    return kind(f"{what}: {reason.rstrip('.')}. {what_to_do}")


_ANOTHER_NAME = (
    "The server's certificate is for another name than the one in this address. Use the name that "
    "the certificate has."
)
_TLS_FAILURES = {
    "mismatch, certificate is not valid": _ANOTHER_NAME,
    "Hostname Verification": _ANOTHER_NAME,
    "CERTIFICATE_VERIFY_FAILED": (
        "This client does not trust the server's certificate. If your own authority made it, name "
        "the file of that authority: ca_file, on the command line --ca-file."
    ),
    "WRONG_VERSION_NUMBER": (
        "The server does not encrypt (TLS) at this port: use the port that does, or http:// "
        "instead of https://."
    ),
}
"""What OpenSSL (in Python) and BoringSSL (in gRPC) call a failure, and what to do about it."""


def _json_object(body: bytes | str) -> dict[str, Any]:
    try:
        loaded = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    return loaded if isinstance(loaded, dict) else {}
