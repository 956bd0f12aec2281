"""Reads the body of a request, as far as it may be read: a server itself sets no bound."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any, Callable

from d2serve.server.asgi.heads import Head
from d2serve.server.asgi.refusals import Disconnected, too_large, too_slow

Receive = Callable[[], Awaitable[Any]]
"""Of ASGI: gives the next piece of what a client sends."""


async def read_body(receive: Receive, head: Head, most: int, seconds: float) -> bytes:
    """The whole body.

    Args:
        most: bytes that are taken. A body that says it is longer is not begun to read.
        seconds: within which it must have come.

    Raises:
        Refused: it is too large, or comes too slowly.
        Disconnected: the client went meanwhile.
    """
    if head.length is not None and head.length > most:
        raise too_large(head.length, most)
    try:
        return await asyncio.wait_for(_read(receive, most), seconds)
    except asyncio.TimeoutError:
        raise too_slow(seconds) from None


async def _read(receive: Receive, most: int) -> bytes:
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Disconnected
        body += message.get("body", b"")
        if len(body) > most:
            raise too_large(None, most)
        if not message.get("more_body", False):
            return bytes(body)
