"""The way of every request, whatever carries it: with the token of the moment, and again where that
helps.

A renewed token replaces the old one at once, also for requests that are on their way. Those are
refused before anything is done for them, so they are asked once more with the new token.
TorchServe takes it into use a moment before the key file has it, and a server that was suspended
past the end of its tokens renews them when it wakes: hence the short wait for a new one.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from typing import Callable, TypeVar

from d2serve.client.connection.settings import Connection
from d2serve.client.errors import AuthorizationError

T = TypeVar("T")
Headers = dict[str, str]

_NEW_TOKEN_SECONDS = 1.5
"""More than renewing.CHECK_SECONDS of the server's room."""
_PAUSE_SECONDS = 0.02


def ask(connection: Connection, send: Callable[[Headers], T]) -> T:
    """What ``send`` returns or raises at last, called with the headers of each attempt."""
    return connection.retry.call(lambda: ask_once(connection, send))


def ask_once(connection: Connection, send: Callable[[Headers], T]) -> T:
    """``ask`` without asking again while the server is full."""
    headers = connection.headers()
    try:
        return send(headers)
    except AuthorizationError:
        renewed = _renewed(connection, headers)
        if renewed is None:
            raise
    return send(renewed)


async def ask_async(connection: Connection, send: Callable[[Headers], Awaitable[T]]) -> T:
    """``ask`` for asyncio. The key file is read in a thread, so that the event loop goes on."""
    return await connection.retry.call_async(lambda: ask_once_async(connection, send))


async def ask_once_async(connection: Connection, send: Callable[[Headers], Awaitable[T]]) -> T:
    """``ask_once`` for asyncio."""
    headers = await asyncio.to_thread(connection.headers)
    try:
        return await send(headers)
    except AuthorizationError:
        renewed = await asyncio.to_thread(_renewed, connection, headers)
        if renewed is None:
            raise
    return await send(renewed)


def _renewed(connection: Connection, sent: Headers) -> Headers | None:
    """The headers with the token that has replaced the one that was sent; None if none has."""
    if connection.credentials.key_file is None:
        return None
    deadline = time.monotonic() + _NEW_TOKEN_SECONDS
    try:
        while (headers := connection.headers()) == sent:
            if time.monotonic() >= deadline:
                return None
            time.sleep(_PAUSE_SECONDS)
    except AuthorizationError:  # the file has gone: the refusal says more
        return None
    return headers
