"""One tree of errors, so that a caller can tell what went wrong without reading messages.

    ClientError
    ├── AuthorizationError    the token is missing, wrong or expired
    ├── ModelNotFound         no such model, or no such version of it
    ├── RequestRejected       a 4xx: this request is at fault (code, message, status)
    ├── ServerOverloaded      queue full, or no worker to answer: try again
    ├── ServerFailed          any other 5xx
    ├── ServerUnavailable     nothing answers at the address, or not in time
    │   └── NotConnected      nothing was sent: there is nobody at the address
    ├── MalformedReply        the reply is not "response, version 1"
    ├── InvalidInput          refused on this side, before anything was sent
    ├── WorkersNotReady       the model's workers die, or are not READY in time
    ├── ServerStartError      TorchServe did not start; carries the end of its log
    │   ├── JavaNotFound
    │   └── ArchiveRefused    a .mar is damaged, unlisted or not for this server
    ├── StubsUnavailable      the gRPC definitions could not be found or compiled
    ├── Detectron2Unavailable detectron2's structures were asked for where it is not installed
    └── DrawingError

Each message says what was got, what was expected, the likely cause and the next step.
"""

from __future__ import annotations


class ClientError(Exception):
    """Base of everything this package raises on purpose."""


class AuthorizationError(ClientError):
    """TorchServe answers 400 (gRPC: PERMISSION_DENIED) to a missing or expired token."""


class ModelNotFound(ClientError):
    """The server does not serve a model of this name or version."""


class RequestRejected(ClientError):
    """The server refused this one request; sending it again unchanged will not help."""

    def __init__(self, message: str, *, code: str, status: int | None) -> None:
        where = "gRPC" if status is None else f"HTTP {status}"
        super().__init__(f"The request was rejected ({where}, {code}): {message}")
        self.code = code
        self.message = message
        self.status = status


class ServerOverloaded(ClientError):
    """The job queue is full or no worker is up (HTTP 503; on gRPC told only by its message)."""


class ServerFailed(ClientError):
    """The server failed on its own side (HTTP 5xx other than 503)."""


class ServerUnavailable(ClientError):
    """Nothing answers at the address, or the answer did not come in time."""


class NotConnected(ServerUnavailable):
    """No connection could be made, so nothing was sent: safe to try again."""


class MalformedReply(ClientError):
    """The reply is not a response of version 1."""


class InvalidInput(ClientError):
    """What was handed in cannot be sent: an unreadable file, an array of the wrong shape…"""


class WorkersNotReady(ClientError):
    """The workers of a model keep dying, or did not become READY in time."""


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


class Detectron2Unavailable(ClientError):
    """detectron2, or the torch it needs, cannot be imported."""


class DrawingError(ClientError):
    """The picture could not be drawn."""
