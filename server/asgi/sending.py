"""Writes an answer of HTTP, whole and with its length."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from typing import Any, Callable

from d2serve.handlers.replies.reply import JSON

Send = Callable[[Any], Awaitable[None]]
"""Of ASGI: takes the next piece of what a client gets."""


async def send_answer(
    send: Send,
    body: bytes,
    headers: Mapping[str, str],
    status: int = 200,
    content_type: str = JSON,
    head_only: bool = False,
) -> None:
    """Send one answer.

    Args:
        headers: beside those of the body, which they may replace.
        head_only: as HEAD asks; the length is that of the body all the same.
    """
    told = {"content-type": content_type, "content-length": str(len(body)), **headers}
    pairs = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in told.items()]
    await send({"type": "http.response.start", "status": status, "headers": pairs})
    await send({"type": "http.response.body", "body": b"" if head_only else body})
