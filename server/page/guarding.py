"""Who may ask the page's server: the page itself, opened by whoever read its address.

Every page that a browser has open can send requests to this machine, and every user of it can
connect to its ports. So what does more than hand out the page's files asks for a key, which is in
the address that `d2serve serve` prints, behind the ``#``: browsers send that part to nobody, and
the page sends it in a header, which pages of other origins may not set.
"""

from __future__ import annotations

import secrets
from email.message import Message
from http import HTTPStatus
from typing import NamedTuple

from d2serve.server.torchserve.config.ports import LOOPBACK

KEY_HEADER = "X-D2serve-Page"

SECURITY_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
"""Of every answer: the page runs its own files alone, and is shown in no other page."""


class Refusal(NamedTuple):
    """Why a request is not answered."""

    status: HTTPStatus
    code: str
    message: str


class Guard:
    """Looks at the headers of each request of one server."""

    def __init__(self, port: int) -> None:
        """
        Args:
            port: at which the server listens.
        """
        self.key = secrets.token_urlsafe(18)
        self._hosts = tuple(f"{name}:{port}" for name in (LOOPBACK, "localhost"))

    def refused(self, method: str, is_file: bool, headers: Message) -> Refusal | None:
        """Why a request is refused; None where it may be answered.

        Args:
            method: HTTP's.
            is_file: whether it is for one of the page's files, which hold nothing secret.
            headers: of the request.
        """
        host = _only(headers, "Host")
        if host not in self._hosts:
            # A name of others that leads to this machine: DNS rebinding.
            return _forbidden(
                "wrong_host", f"Got the host {host!a}, expected {' or '.join(self._hosts)}."
            )
        origin = _only(headers, "Origin")
        comes_from_here = origin == f"http://{host}"
        if not comes_from_here and (method == "POST" or "Origin" in headers):
            return _forbidden(
                "wrong_origin",
                f"Got the origin {origin!a}, expected http://{host}: only the page itself may ask. "
                "Programs ask TorchServe: the page shows the curl.",
            )
        if is_file:
            return None
        if headers.get("Sec-Fetch-Site", "same-origin") != "same-origin":
            return _forbidden("wrong_origin", "Another site asks, expected the page itself.")
        given = _only(headers, KEY_HEADER) or ""
        if not secrets.compare_digest(given.encode(), self.key.encode()):
            return _forbidden(
                "wrong_key",
                "The page was opened without the key of this server. Open the address that "
                "`d2serve serve` printed, whole: its end, after the #, is new at each start.",
            )
        return None


def _only(headers: Message, name: str) -> str | None:
    """The value of a header that is there once; None otherwise."""
    values = headers.get_all(name, [])
    return str(values[0]) if len(values) == 1 else None


def _forbidden(code: str, message: str) -> Refusal:
    return Refusal(HTTPStatus.FORBIDDEN, code, message)
