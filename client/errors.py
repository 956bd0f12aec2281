"""One tree of errors, so that a caller sees what went wrong without reading messages.

    ClientError
    ├── AuthorizationError    the token is missing, wrong or expired
    ├── ModelNotFound         no such model, or no such version of it
    ├── RequestRejected       a 4xx: this request is at fault (code, message, status, request_id)
    │   ├── EmptyRequest, InvalidImage, InvalidOption, UnsupportedImageFormat
    │   └── ImageTooLarge, ImageTooSlow, ReplyTooLarge
    ├── ServerOverloaded      queue full, or no worker to answer: try again
    ├── ServerFailed          any other 5xx (request_id)
    │   ├── ModelFailed           the program failed on this image (code, message, status)
    │   └── DeadlineExceeded      the server came to it too late, and computed nothing (the same)
    ├── ServerUnavailable     nothing answers at the address, or not in time
    │   └── NotConnected      nothing was sent: there is nobody at the address
    ├── MalformedReply        the reply is not "response, version 1"
    ├── InvalidInput          refused on this side, before anything was sent
    ├── InsecureConnection    the token would be sent without encryption
    ├── WorkersNotReady       the model's workers die, or are not READY in time
    ├── StillBusy             a version has not finished in time what it was asked
    ├── ServerStartError      TorchServe did not start; carries the end of its log
    │   ├── JavaNotFound
    │   └── ArchiveRefused    a .mar is damaged, unlisted or not for this server
    ├── StubsUnavailable      the gRPC definitions could not be found or compiled
    ├── PackageUnavailable    structures of a package were asked for that is not installed
    │   └── Detectron2Unavailable
    └── DrawingError

Each message says what was got, what was expected, the likely cause and the next step.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar


class ClientError(Exception):
    """Base of everything this package raises on purpose."""


class AuthorizationError(ClientError):
    """TorchServe answers 400 (gRPC: PERMISSION_DENIED) to a missing or expired token, a proxy 401
    (UNAUTHENTICATED) to a key that it does not know."""


class ModelNotFound(ClientError):
    """The server does not serve a model of this name or version."""


class RequestRejected(ClientError):
    """The server refused this one request; sending it again unchanged will not help.

    ``status`` is HTTP's, None over gRPC; ``request_id`` is that of the server's log, if known;
    ``where`` stands in the text's brackets, which name all three without it.
    """

    def __init__(
        self,
        message: str,
        *,
        code: str,
        status: int | None,
        request_id: str | None = None,
        where: str | None = None,
    ) -> None:
        where = where or origin(status, code, request_id)
        super().__init__(f"The request was rejected ({where}): {message}")
        self.code = code
        self.message = message
        self.status = status
        self.request_id = request_id


class EmptyRequest(RequestRejected):
    """No image bytes arrived."""


class InvalidImage(RequestRejected):
    """The bytes claim to be an image and cannot be decoded."""


class InvalidOption(RequestRejected):
    """What was asked for beside the image cannot be had of this model."""


class UnsupportedImageFormat(RequestRejected):
    """The bytes are of no image format that is served."""


class ImageTooLarge(RequestRejected):
    """There are more bytes, pixels or frames than are served."""


class ImageTooSlow(RequestRejected):
    """Decoding takes longer than one request may."""


class ReplyTooLarge(RequestRejected):
    """The answer is larger than the server can send: ask for less."""


class ServerOverloaded(ClientError):
    """The job queue is full or no worker is up (HTTP 503; on gRPC only its message says so)."""


class ServerFailed(ClientError):
    """The server failed on its own side (HTTP 5xx other than 503 of a full queue)."""

    def __init__(self, message: str, *, request_id: str | None = None) -> None:
        super().__init__(message)
        self.request_id = request_id


class HandlerFailed(ServerFailed):
    """What the handler says of a request that it could not answer; not raised itself."""

    _what: ClassVar[str]

    def __init__(
        self,
        message: str,
        *,
        code: str,
        status: int | None,
        request_id: str | None = None,
        where: str | None = None,
    ) -> None:
        where = where or origin(status, code, request_id)
        super().__init__(f"{self._what} ({where}): {message}", request_id=request_id)
        self.code = code
        self.message = message
        self.status = status


class ModelFailed(HandlerFailed):
    """The program failed on this image: it would again, and others get their answers."""

    _what = "The model failed on the image"


class DeadlineExceeded(HandlerFailed):
    """The server came to the request when nobody waited for the answer any more, by the client's
    ``timeout`` or by a proxy, and computed nothing."""

    _what = "The server came to the request too late"


BY_CODE: Mapping[str, type[RequestRejected] | type[HandlerFailed]] = {
    "empty_request": EmptyRequest,
    "invalid_image": InvalidImage,
    "invalid_option": InvalidOption,
    "unsupported_image_format": UnsupportedImageFormat,
    "image_too_large": ImageTooLarge,
    "image_too_slow": ImageTooSlow,
    "reply_too_large": ReplyTooLarge,
    "model_failed": ModelFailed,
    "deadline_exceeded": DeadlineExceeded,
}
"""What each code of d2serve.handlers.errors raises, over every protocol."""


def origin(status: int | None, code: str | None = None, request_id: str | None = None) -> str:
    """Where an error comes from and what it is about, as its text has it in brackets."""
    protocol = "gRPC" if status is None else f"HTTP {status}"
    request = None if request_id is None else f"request {request_id}"
    return ", ".join(each for each in (protocol, code, request) if each is not None)


class ServerUnavailable(ClientError):
    """Nothing answers at the address, or the answer did not come in time."""


class NotConnected(ServerUnavailable):
    """No connection could be made, so nothing was sent: safe to try again."""


class MalformedReply(ClientError):
    """The reply is not a response of version 1."""


class InvalidInput(ClientError):
    """What was handed in cannot be sent: an unreadable file, an array of the wrong shape…"""


class InsecureConnection(ClientError):
    """The token would cross a network without encryption, which nobody has allowed."""


class WorkersNotReady(ClientError):
    """The workers of a model keep dying, or did not become READY in time."""


class StillBusy(ClientError):
    """A version was not removed, nor its workers: requests to it would have been lost."""


class ServerStartError(ClientError):
    """TorchServe did not start. ``log_tail`` holds the last lines it wrote."""

    def __init__(self, message: str, *, log_tail: str = "") -> None:
        super().__init__(message)
        self.log_tail = log_tail


class JavaNotFound(ServerStartError):
    """No Java 17 or newer on this machine."""


class ArchiveRefused(ServerStartError):
    """A model archive must not be served, neither from the start nor by a registration."""


class StubsUnavailable(ClientError):
    """The gRPC definitions inside TorchServe's jar could not be found or compiled."""


class PackageUnavailable(ClientError):
    """A package, whose own structures were asked for, cannot be imported."""


class Detectron2Unavailable(PackageUnavailable):
    """detectron2, or the torch it needs, cannot be imported."""


class DrawingError(ClientError):
    """The picture could not be drawn."""
