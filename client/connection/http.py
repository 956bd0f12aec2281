"""What the clients over HTTP share: options of httpx, and what its answers and failures mean."""

from __future__ import annotations

from typing import Any

import httpx

from d2serve.client.connection.server_errors import envelope_error, http_error, no_answer_error
from d2serve.client.connection.settings import Connection
from d2serve.client.errors import ServerUnavailable


def httpx_options(connection: Connection) -> dict[str, Any]:
    """Options of every httpx client of this package.

    A proxy named in the environment must not get requests that stay on this machine.
    """
    context = connection.ssl_context()
    return {
        "base_url": connection.url,
        "timeout": connection.timeout,
        "trust_env": not connection.is_loopback,
        "verify": True if context is None else context,
    }


def extensions(connection: Connection) -> dict[str, Any]:
    """What every request over httpx needs beside its options: the name of the server."""
    return {} if connection.server_name is None else {"sni_hostname": connection.server_name}


def unavailable_error(connection: Connection, error: Exception) -> ServerUnavailable:
    """The error for a request that got no answer at all."""
    if isinstance(error, httpx.TimeoutException):
        return ServerUnavailable(
            f"{connection.url} did not answer in time ({type(error).__name__}). The model may "
            "still be loading or need longer than the client's timeout: raise `timeout`."
        )
    return no_answer_error(
        f"No answer from {connection.url}",
        str(error) or type(error).__name__,
        "Is TorchServe running there? Start it with `d2serve serve`, or give the address it "
        "printed.",
        not_connected=isinstance(error, httpx.ConnectError),
    )


def accepted(response: httpx.Response, connection: Connection) -> httpx.Response:
    """The response itself, unless it is an error: then that is raised."""
    status, body, request_id = response.status_code, response.content, request_id_of(response)
    if status >= 400:
        raise http_error(status, body, connection, request_id)
    rejected = envelope_error(body, status, request_id)
    if rejected is not None:
        raise rejected
    return response


def request_id_of(response: httpx.Response) -> str | None:
    """TorchServe's name for the request, which is in the headers of every answer to one."""
    found = response.headers.get("x-request-id")
    return None if found is None else str(found)
