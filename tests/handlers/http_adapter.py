"""An adapter for another server than TorchServe: Python's own HTTP server, in 40 lines.

It is what CONTRIBUTING's "Add a server adapter" asks for, and knows nothing but that.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlsplit

from d2serve.handlers.requests.request import DESCRIBE, HTTP, INFER, Request
from d2serve.handlers.service import Service


class Adapter(BaseHTTPRequestHandler):
    """Answers ``POST /predict``, ``POST /v2/models/NAME/infer`` and ``GET /v2/models/NAME``."""

    service: Service

    def do_GET(self) -> None:
        self._answer(DESCRIBE)

    def do_POST(self) -> None:
        self._answer(INFER if self.path.endswith("/infer") else None)

    def _answer(self, kind: str | None) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        options = dict(parse_qsl(urlsplit(self.path).query))
        headers = dict(self.headers.items())
        reply = self.service.reply(Request(body, options, headers, kind, HTTP, id="foreign"))
        self.send_response(reply.status, reply.code)
        self.send_header("Content-Type", reply.content_type)
        self.send_header("Content-Length", str(len(reply.body)))
        self.end_headers()
        self.wfile.write(reply.body)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serving(service: Service) -> Iterator[str]:
    """The address of a server that answers with this service."""
    adapter = type("Bound", (Adapter,), {"service": service})
    with ThreadingHTTPServer(("127.0.0.1", 0), adapter) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
