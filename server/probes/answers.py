"""HTTP, as much of it as a probe needs: a request line and headers come in, one answer goes out.

Whoever reaches the address can do no more than ask: no body is read, nothing is kept, no connection
lives longer than a few seconds, and of too many the oldest is closed, so that a prober who is
answered at once always gets through.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Mapping
from http import HTTPStatus
from typing import Any, Callable

from d2serve.server.probes.verdicts import Verdict

Question = Callable[[], Awaitable[Verdict]]

HEADER_BYTES = 8 * 1024
MOST_CONNECTIONS = 128
_REQUEST_SECONDS = 3.0
_ANSWER_SECONDS = 5.0
_END_OF_HEADERS = b"\r\n\r\n"


class ProbeAnswers:
    """Answers ``GET`` and ``HEAD`` of a few paths; ``handle`` is for asyncio.start_server."""

    def __init__(self, questions: Mapping[str, tuple[str, Question]]) -> None:
        """
        Args:
            questions: by path, the word for yes, and who knows.
        """
        self._questions = questions
        self._open: dict[asyncio.StreamWriter, None] = {}

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the one request of a connection."""
        self._open[writer] = None
        if len(self._open) > MOST_CONNECTIONS:
            oldest = next(iter(self._open))
            del self._open[oldest]
            oldest.transport.abort()
        try:
            writer.write(await self._answer(reader))
            await asyncio.wait_for(writer.drain(), _ANSWER_SECONDS)
        except (OSError, EOFError, asyncio.TimeoutError):
            writer.transport.abort()
        finally:
            self._open.pop(writer, None)
            with contextlib.suppress(OSError):
                writer.close()

    async def _answer(self, reader: asyncio.StreamReader) -> bytes:
        try:
            request = await asyncio.wait_for(
                reader.readuntil(_END_OF_HEADERS), timeout=_REQUEST_SECONDS
            )
        except asyncio.LimitOverrunError:
            return _reply(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, {"status": "not understood"})
        words = request.partition(b"\r\n")[0].decode("latin-1").split(" ")
        if len(words) != 3 or not words[2].startswith("HTTP/1."):
            return _reply(HTTPStatus.BAD_REQUEST, {"status": "not understood"})
        method, path = words[0], words[1].partition("?")[0]
        with_body = method != "HEAD"
        if path not in self._questions:
            known = {"status": "unknown path", "paths": sorted(self._questions)}
            return _reply(HTTPStatus.NOT_FOUND, known, with_body)
        if method not in ("GET", "HEAD"):
            return _reply(HTTPStatus.METHOD_NOT_ALLOWED, {"status": "only GET and HEAD"})
        yes, ask = self._questions[path]
        verdict = await ask()
        if verdict.is_yes:
            return _reply(HTTPStatus.OK, {"status": yes}, with_body)
        why_not = {"status": f"not {yes}", "reasons": verdict.reasons}
        return _reply(HTTPStatus.SERVICE_UNAVAILABLE, why_not, with_body)


def _reply(status: HTTPStatus, content: Mapping[str, Any], with_body: bool = True) -> bytes:
    body = json.dumps(content).encode() + b"\n"
    allowed = ("Allow: GET, HEAD",) if status is HTTPStatus.METHOD_NOT_ALLOWED else ()
    lines = (
        f"HTTP/1.1 {status.value} {status.phrase}",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        "Cache-Control: no-store",
        "Connection: close",
        *allowed,
    )
    head = "\r\n".join(lines).encode("ascii") + _END_OF_HEADERS
    return head + body if with_body else head
