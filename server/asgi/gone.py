"""What a client does while it is answered over HTTP: it may go, or still send what is refused.

Whose client has gone costs no work, as over gRPC. And who is refused before the body was read gets
to know it: a server that closed the connection at once would reset it while the client still sends,
and it would see a broken connection instead of the reason.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable
from typing import Any, Callable

from d2serve.server.asgi.bodies import Receive
from d2serve.server.asgi.heads import Scope
from d2serve.server.asgi.sending import Send

App = Callable[[Scope, Receive, Send], Awaitable[None]]

_DISCARD_SECONDS, _IDLE_SECONDS = 5.0, 0.5


async def until_gone(app: App, scope: Scope, receive: Receive, send: Send) -> None:
    """Let an ASGI application answer, for as long as there is a client.

    Args:
        app: it reads the body once, or only its beginning, and asks no more after its end.
    """
    has_all = asyncio.Event()
    waits_for_leave = any(name.lower() == b"expect" for name, _ in scope["headers"])

    async def receive_body() -> Any:
        message = await receive()
        if not message.get("more_body", False):
            has_all.set()
        return message

    async def discard() -> None:
        while not has_all.is_set():
            await asyncio.wait_for(receive_body(), _IDLE_SECONDS)

    async def send_after_all(message: Any) -> None:
        if not has_all.is_set() and not waits_for_leave:
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(discard(), _DISCARD_SECONDS)
            has_all.set()
        await send(message)

    async def gone() -> None:
        await has_all.wait()
        while (await receive())["type"] != "http.disconnect":
            pass

    answering = asyncio.ensure_future(app(scope, receive_body, send_after_all))
    watching = asyncio.ensure_future(gone())
    try:
        await asyncio.wait({answering, watching}, return_when=asyncio.FIRST_COMPLETED)
        if answering.done():
            answering.result()
    finally:
        watching.cancel()
        answering.cancel()
