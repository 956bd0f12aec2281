"""What the proxy before a server (deploy/nginx.conf) says itself, and the errors for it.

Over HTTP its codes say which; over gRPC the status does, and words that TorchServe never uses.
"""

from __future__ import annotations

from d2serve.client.errors import (
    AuthorizationError,
    ClientError,
    ServerOverloaded,
    ServerUnavailable,
)

NOTHING_BEGUN = "nothing was begun"
"""Over gRPC, in the details of what may be asked again: TorchServe's token was being renewed, or
this client asks too much at once."""


def proxy_error(code: str, message: str) -> ClientError | None:
    """The error for a code of the proxy; None for one of others."""
    if code == "unauthorized":
        return key_refused_error(message)
    if code == "too_many_requests":
        return not_begun_error(message)
    if code in ("unavailable", "too_late"):
        return ServerUnavailable(message)
    return None


def key_refused_error(message: str) -> AuthorizationError:
    """The error for a client's own key that the proxy did not take."""
    return AuthorizationError(f"The proxy before the server refused the key: {message}")


def not_begun_error(message: str) -> ServerOverloaded:
    """The error for what the proxy did not pass on, so that it may be asked again."""
    return ServerOverloaded(f"The proxy before the server did not pass this on: {message}")
