"""Ends a request over HTTP whose client has gone: what waits for a thread then costs no work.

Over gRPC the server does so itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any, Callable

from d2serve.server.asgi.bodies import Receive
from d2serve.server.asgi.heads import Scope

Send = Callable[[Any], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


async def until_gone(app: App, scope: Scope, receive: Receive, send: Send) -> None:
    """Let an ASGI application answer, for as long as there is a client.

    Args:
        app: it reads the body once, and asks no more after its end.
    """
    has_all = asyncio.Event()

    async def receive_body() -> Any:
        message = await receive()
        if not message.get("more_body", False):
            has_all.set()
        return message

    async def gone() -> None:
        await has_all.wait()
        while (await receive())["type"] != "http.disconnect":
            pass

    answering = asyncio.ensure_future(app(scope, receive_body, send))
    watching = asyncio.ensure_future(gone())
    try:
        await asyncio.wait({answering, watching}, return_when=asyncio.FIRST_COMPLETED)
        if answering.done():
            answering.result()
    finally:
        watching.cancel()
        answering.cancel()
