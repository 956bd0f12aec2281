"""The options that say how to reach a server, as commands that ask one take them."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated, Optional, Union

import typer

from d2serve.cli.options import key_file_or_here
from d2serve.client.connection.settings import ConnectionSettings
from d2serve.client.predict.grpc_client import DEFAULT_GRPC_ADDRESS, D2ServeGrpcClient
from d2serve.client.predict.http_client import DEFAULT_INFERENCE_ADDRESS, D2ServeClient

ServerClient = Union[D2ServeClient, D2ServeGrpcClient]


class Protocol(str, Enum):
    """How to reach the server."""

    HTTP = "http"
    GRPC = "grpc"


PANEL = "Asking a server"
"""Of the help, which shows these options apart."""

ProtocolOption = Annotated[
    Protocol, typer.Option(help="How to reach the server.", rich_help_panel=PANEL)
]
Address = Annotated[
    Optional[str],
    typer.Option(
        help=f"Default: {DEFAULT_INFERENCE_ADDRESS}, for gRPC {DEFAULT_GRPC_ADDRESS}. "
        "With https:// the connection is encrypted (TLS), over gRPC too.",
        rich_help_panel=PANEL,
    ),
]
Version = Annotated[
    Optional[str],
    typer.Option(
        help="Version of the model; default: the server's default.", rich_help_panel=PANEL
    ),
]
Token = Annotated[
    Optional[str],
    typer.Option(help="Inference token.", envvar="D2SERVE_TOKEN", rich_help_panel=PANEL),
]
HeaderLines = Annotated[
    Optional[list[str]],
    typer.Option(
        help="Sent with every request, as 'Name: value'; give it again for another.",
        metavar="HEADER",
        rich_help_panel=PANEL,
    ),
]
AllowTokenInClear = Annotated[
    bool,
    typer.Option(
        "--allow-token-in-clear",
        help="Send the token over a network without encryption, where others can read it.",
        rich_help_panel=PANEL,
    ),
]

SERVER_OPTIONS = (
    "protocol",
    "address",
    "version",
    "token",
    "key_file",
    "ca_file",
    "header",
    "allow_token_in_clear",
)
"""Names of parameters that mean something for a server alone."""


def connection_settings(
    token: str | None,
    key_file: Path | None,
    ca_file: Path | None,
    header: list[str] | None,
    allow_token_in_clear: bool,
) -> ConnectionSettings:
    """What every client of a server takes, of what the command line said."""
    return {
        "token": token,
        "key_file": _key_file(token, key_file),
        "ca_file": ca_file,
        "headers": _headers(header or []),
        "allow_token_in_clear": allow_token_in_clear,
    }


def server_client(
    protocol: Protocol, address: str | None, settings: ConnectionSettings
) -> ServerClient:
    """A client of the server; raises ClientError where a setting is wrong."""
    if protocol is Protocol.GRPC:
        return D2ServeGrpcClient(address, **settings)
    return D2ServeClient(address, **settings)


def _key_file(token: str | None, key_file: Path | None) -> Path | None:
    """The key file that was named, or that of this directory where nothing else was."""
    if token is not None and key_file is not None:
        raise typer.BadParameter("give either --token or --key-file, not both")
    return key_file_or_here(key_file) if token is None else None


def _headers(lines: list[str]) -> dict[str, str]:
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon:
            raise typer.BadParameter(f"got --header {line!r}, expected 'Name: value'")
        headers[name.strip()] = value.strip()
    return headers
