"""What is said of a token that the server did not take: the likeliest cause, and what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from d2serve.client.connection.credentials import KEY_FILE_NAME, KeyFile
from d2serve.client.connection.management_address import DEFAULT_IN_WORDS, management_address
from d2serve.client.errors import AuthorizationError

if TYPE_CHECKING:
    from d2serve.client.connection.settings import Connection

_WHERE_IT_IS = (
    f"{KEY_FILE_NAME} is in the directory that TorchServe was started in, and `d2serve serve` "
    "prints its path"
)


def refusal_error(connection: Connection) -> AuthorizationError:
    """The error for a token that the server did not take, or for none."""
    credentials = connection.credentials
    kind, key_file = credentials.kind, credentials.key_file
    if key_file is not None and key_file.expired(kind):
        said = (
            f"the one in {key_file.path} has expired. `d2serve serve` renews its own while it "
            f"runs; with `torchserve`, renew it: {_renewal(connection)}."
        )
    elif key_file is not None:
        said = (
            f"{key_file.path} belongs to another server or an earlier start. Give the "
            f"{KEY_FILE_NAME} of the server at {connection.url}: {_WHERE_IT_IS}."
        )
    elif credentials.token is not None:
        said = (
            f"it is wrong, not for {kind}, or has ended, as a token does when it is renewed and "
            f"after 60 minutes by default. Give the server's {KEY_FILE_NAME} in its place, which "
            f"is read for every request: {_WHERE_IT_IS}. To renew a token: {_renewal(connection)}."
        )
    else:
        said = (
            "no token was given, and TorchServe asks for one by default. Give the server's "
            f"{KEY_FILE_NAME}: {_WHERE_IT_IS}."
        )
    return AuthorizationError(f"The server refused the {kind} token: {said}")


def api_key_error(key_file: KeyFile | None) -> AuthorizationError:
    """The error for an API key, which never expires, that the server did not take."""
    given = "that was given" if key_file is None else f"of {key_file.path}"
    return AuthorizationError(
        f"The server refused the API key {given}: it belongs to another server or an earlier "
        f"start. {_WHERE_IT_IS}."
    )


def _renewal(connection: Connection) -> str:
    address, note = management_address(connection), ""
    if address is None:
        address = "MANAGEMENT_ADDRESS"
        note = f", with the server's management address ({DEFAULT_IN_WORDS})"
    return (
        f"`curl '{address}/token?type={connection.credentials.kind}' -H 'Authorization: Bearer "
        f"<API key of {KEY_FILE_NAME}>'`{note}. It rewrites that file"
    )
