"""A stand-in for the web server of Label Studio: files behind a key, and links to a storage."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Host:
    """One web server."""

    files: dict[str, bytes] = field(default_factory=dict)
    """By path, with the query."""
    redirects: dict[str, str] = field(default_factory=dict)
    authorization: str | None = None
    """That every question needs; None is none."""
    address: str = ""
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    """The path and the authorization of each question."""


@contextmanager
def running(host: Host) -> Iterator[Host]:
    """The host, at its ``address``."""
    handler = type("Bound", (_Handler,), {"host": host})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        host.address = f"http://127.0.0.1:{server.server_port}"
        try:
            yield host
        finally:
            server.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    host: Host

    def do_GET(self) -> None:
        given = self.headers.get("Authorization")
        self.host.asked.append((self.path, given))
        if self.host.authorization not in (None, given):
            self._send(401, b"")
        elif self.path in self.host.redirects:
            self.send_response(302)
            self.send_header("Location", self.host.redirects[self.path])
            self.send_header("Content-Length", "0")
            self.end_headers()
        elif self.path in self.host.files:
            self._send(200, self.host.files[self.path])
        else:
            self._send(404, b"")

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.host.asked.append((self.path, asked["refresh"]))
        self._send(200, b'{"access": "short"}')

    def _send(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass
