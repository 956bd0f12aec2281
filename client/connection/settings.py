"""The settings that every client takes, over every protocol, and what follows from them.

A token is a password. It is sent to this machine itself and over encrypted connections, and to
nobody else unless the user says so.
"""

from __future__ import annotations

import os
import re
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import TypedDict

from d2serve.client.connection.addresses import (
    ENCRYPTED,
    is_loopback,
    parse_address,
    with_scheme,
)
from d2serve.client.connection.credentials import Credentials
from d2serve.client.connection.deadlines import Deadlines
from d2serve.client.connection.retrying import DEFAULT_RETRY, Retry
from d2serve.client.connection.trust import trusting
from d2serve.client.errors import InsecureConnection, InvalidInput

DEFAULT_TIMEOUT_SECONDS = 120.0
"""TorchServe's own default_response_timeout."""

_AUTHORIZATION = "authorization"
_SECRETS = (_AUTHORIZATION, "proxy-authorization", "cookie", "x-api-key")
_SET_HERE = ("content-type", "content-length", "transfer-encoding", "host")
_NAME = re.compile(r"[a-z0-9!#$%&'*+.^_`|~-]+")  # a token of RFC 9110, section 5.6.2
_VALUE = re.compile(r"[\x20-\x7e]*")  # what gRPC takes as well


class ConnectionSettings(TypedDict, total=False):
    """How a client reaches its server; every client takes these, by name."""

    token: str | None
    """The token itself; or ``key_file``, or neither where the server asks for none."""
    key_file: str | os.PathLike[str] | None
    """TorchServe's key_file.json. It is read for every attempt, so a renewed token is used."""
    timeout: float
    """Of one attempt, in seconds. The server is told, so that it computes nothing afterwards."""
    retry: Retry
    """How long to ask again while the server's queue is full."""
    ca_file: str | os.PathLike[str] | None
    """PEM file of the authorities whose certificates are trusted, or of the server's certificate
    itself; None is the public authorities."""
    server_name: str | None
    """The name that the server's certificate has to be for, where the address is another one: an
    IP address, or a forwarded port. None is the host of the address."""
    headers: Mapping[str, str] | None
    """Sent with every request, in gRPC as metadata: what a gateway in front asks for."""
    allow_token_in_clear: bool
    """Whether a token (also one in ``headers``) may cross a network without encryption."""


class Connection:
    """A server's address, and how to talk to it."""

    def __init__(
        self,
        token_kind: str,
        address: str,
        *,
        token: str | None = None,
        key_file: str | os.PathLike[str] | None = None,
        timeout: float = DEFAULT_TIMEOUT_SECONDS,
        retry: Retry = DEFAULT_RETRY,
        ca_file: str | os.PathLike[str] | None = None,
        server_name: str | None = None,
        headers: Mapping[str, str] | None = None,
        allow_token_in_clear: bool = False,
    ) -> None:
        """
        Args:
            token_kind: "inference" or "management": which of TorchServe's tokens is needed.
            address: as ``parse_address`` takes it. The rest is of ``ConnectionSettings``.

        Raises:
            InvalidInput: the address, the headers or the file of authorities are none.
            InsecureConnection: the token would cross a network without encryption.
        """
        self.url = with_scheme(address)
        self.parts = parse_address(address)
        self.is_loopback = is_loopback(self.url)
        self.is_encrypted = self.parts.scheme == ENCRYPTED
        self.credentials = Credentials.of(token_kind, token, key_file)
        self.timeout = timeout
        self.retry = retry
        self.deadlines = Deadlines(timeout)
        self.own_headers = _checked_headers(headers or {})
        self._ca_file = None if ca_file is None else Path(ca_file)
        self.server_name = server_name
        if self.credentials.are_given and _AUTHORIZATION in self.own_headers:
            raise InvalidInput("Got a token and the header Authorization, expected one of them.")
        for name, given in (("ca_file", ca_file), ("server_name", server_name)):
            if given is not None and not self.is_encrypted:
                raise InvalidInput(
                    f"Got {name} for {self.url}, which is not encrypted. Expected an address that "
                    f"begins with https: https://{self.parts.netloc}."
                )
        if not allow_token_in_clear:
            self._require_protected_token()

    def headers(self) -> dict[str, str]:
        """The user's headers and the token, for one attempt; reads the key file, if there is one.

        Names are in lower case, as gRPC needs them.
        """
        return {**self.own_headers, **self.credentials.headers()}

    def ssl_context(self) -> ssl.SSLContext | None:
        """Trusts the authorities of ``ca_file`` alone; None where the user named no file."""
        if self._ca_file is None:
            return None
        try:
            return trusting(self._ca_file)
        except (OSError, ssl.SSLError) as error:
            raise InvalidInput(
                f"The file of authorities {self._ca_file} cannot be used "
                f"({error.strerror or error}): expected certificates in PEM, as the server's "
                "operator gives them."
            ) from error

    def root_certificates(self) -> bytes | None:
        """The same for gRPC: the content of ``ca_file``, or None."""
        if self._ca_file is None:
            return None
        self.ssl_context()  # of what is no certificate, gRPC would say nothing
        return self._ca_file.read_bytes()

    def _require_protected_token(self) -> None:
        secret = self._secret()
        if secret is not None and not self.is_encrypted and not self.is_loopback:
            raise InsecureConnection(
                f"{secret} would go to {self.url} without encryption, where others on the way can "
                f"read it. Use https://{self.parts.netloc} if the server or a proxy in front of it "
                "encrypts (TLS). On a network that you trust, allow it: allow_token_in_clear=True, "
                "on the command line --allow-token-in-clear."
            )

    def _secret(self) -> str | None:
        """What would be sent that nobody on the way may read, in words; None without any."""
        if self.credentials.key_file is not None:
            return f"The token of {self.credentials.key_file.path}"
        if self.credentials.token is not None:
            return "The token"
        return next((f"The header {name}" for name in _SECRETS if name in self.own_headers), None)


def _checked_headers(headers: Mapping[str, str]) -> dict[str, str]:
    checked: dict[str, str] = {}
    for name, value in headers.items():
        lower = name.lower()
        if not _NAME.fullmatch(lower) or not _VALUE.fullmatch(value):
            raise InvalidInput(
                f"Got the header {name!r}, whose name or value cannot be sent: expected printable "
                "ASCII, and no blanks or colons in the name."
            )
        if lower in _SET_HERE:
            raise InvalidInput(f"Got the header {name!r}, which the client itself sets.")
        checked[lower] = value
    return checked
