"""Addresses of servers, as users write them: ``host:port``, ``http://...`` or ``https://...``.

HTTP and gRPC take the same, so that ``https`` means encryption over either, and is never dropped.
"""

from __future__ import annotations

import ipaddress
from urllib.parse import SplitResult, urlsplit

from d2serve.client.errors import InvalidInput

ENCRYPTED = "https"
_SCHEMES = ("http", ENCRYPTED)


def with_scheme(address: str) -> str:
    """``host:port`` as a URL; what is one already stays as it is, but for a slash at the end."""
    return (address if "://" in address else f"http://{address}").rstrip("/")


def parse_address(address: str) -> SplitResult:
    """The parts of an address, of which the host is there and the port, if any, is a number.

    Raises:
        InvalidInput: it is no address of an HTTP or gRPC server.
    """
    try:
        parts = urlsplit(with_scheme(address))
        is_known = parts.scheme in _SCHEMES and bool(parts.hostname) and parts.port != 0
    except ValueError:  # of a port that is no number, or of brackets
        is_known = False
    if not is_known:
        raise InvalidInput(
            f"Got the address {address!r}, expected host:port or http://host:port, and "
            "https://host:port for a server that encrypts (TLS). The address of a server that "
            "`d2serve serve` started is in its first lines."
        )
    if parts.username is not None or parts.query or parts.fragment:
        raise InvalidInput(
            f"Got an address of {parts.hostname} with more in it than scheme, host, port and path. "
            "Give a token by `token` or `key_file`, and anything else by `headers`."
        )
    return parts


def is_loopback(address: str) -> bool:
    """Whether an address like ``http://127.0.0.1:8080`` never leaves this machine."""
    host = urlsplit(address).hostname or ""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
