"""Servers in threads, for what a real TorchServe would not tell: what reached it, and when."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TypeVar


class Answering(ThreadingHTTPServer):
    """On a free port of this machine."""

    daemon_threads = True

    def __init__(self, handler: type[BaseHTTPRequestHandler]) -> None:
        super().__init__(("127.0.0.1", 0), handler)
        self.port = int(self.server_address[1])


_Server = TypeVar("_Server", bound=Answering)


@contextlib.contextmanager
def listening(server: _Server) -> Iterator[_Server]:
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class Probes(Answering):
    """Says of each path what it was told to; 200 where nothing was."""

    def __init__(self) -> None:
        super().__init__(_Probe)
        self.statuses: dict[str, int] = {}


class _Probe(BaseHTTPRequestHandler):
    server: Probes

    def do_GET(self) -> None:
        self.send_response(self.server.statuses.get(self.path, 200))
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", "21")
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(b'{"status": "of ours"}')

    def do_HEAD(self) -> None:
        self.do_GET()

    def log_message(self, *_: object) -> None:
        pass


class Echo(Answering):
    """Answers what reached it, after ``seconds``."""

    def __init__(self) -> None:
        super().__init__(_EchoHandler)
        self.seconds = 0.0
        self.connections = 0

    def process_request(self, *arguments: object) -> None:
        self.connections += 1
        super().process_request(*arguments)  # type: ignore[arg-type]


class _EchoHandler(BaseHTTPRequestHandler):
    server: Echo

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        time.sleep(self.server.seconds)
        said = {
            "path": self.path,
            "headers": {name.lower(): value for name, value in self.headers.items()},
            "bytes": len(body),
            "at": time.time(),
        }
        answer = json.dumps(said).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def do_PUT(self) -> None:
        self.do_POST()

    def log_message(self, *_: object) -> None:
        pass
