"""HTTP, as far as the page needs it: its files, which models there are, a prediction."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from socketserver import ThreadingTCPServer
from typing import Any
from urllib.parse import parse_qs

from d2serve.client.errors import ClientError
from d2serve.handlers.errors import RequestError
from d2serve.server.page.asking import AskedServer
from d2serve.server.page.guarding import SECURITY_HEADERS, Guard, Refusal
from d2serve.server.page.page_files import page_files
from d2serve.server.page.picture import upright_png
from d2serve.server.torchserve.config.ports import LOOPBACK

MOST_BYTES = 64 * 1024 * 1024
"""Of an image: what TorchServe takes with this package's own settings."""
MOST_CONNECTIONS = 64

_MODELS, _ABOUT, _PREDICT, _PICTURE = "/models", "/about", "/predict", "/picture"
_PATHS = {_MODELS: "GET", _ABOUT: "GET", _PREDICT: "POST", _PICTURE: "POST"}


class ListeningServer(ThreadingTCPServer):
    """Listens, and answers each connection in a thread; what is one too many is closed."""

    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, port: int) -> None:
        super().__init__((LOOPBACK, port), PageAnswers)
        self.guard = Guard(port)
        self.files = page_files()
        self.asked: AskedServer | None = None
        self._free = threading.BoundedSemaphore(MOST_CONNECTIONS)

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._free.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that has gone away is no event."""


class PageAnswers(BaseHTTPRequestHandler):
    """Answers the requests of one connection."""

    server: ListeningServer
    protocol_version = "HTTP/1.1"
    timeout = 30
    """Seconds without a byte after which a connection is closed."""

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def send_error(self, code: int, message: str | None = None, _: str | None = None) -> None:
        """Answer what http.server itself does not understand, as all else is answered."""
        self.request_version = self.protocol_version  # else it sends no headers
        if code == HTTPStatus.NOT_IMPLEMENTED:
            self._refuse(_only_methods("GET and POST"))
        else:
            status = HTTPStatus(code)
            self._refuse(Refusal(status, "not_understood", message or status.phrase))

    def version_string(self) -> str:
        return "d2serve"

    def log_message(self, *_: object) -> None:
        """The log is TorchServe's."""

    def _answer(self) -> None:
        path, _, query = self.path.partition("?")
        file = self.server.files.get(path)
        refusal = self.server.guard.refused(self.command, file is not None, self.headers)
        refusal = refusal or self._wrong_path_or_body(path)
        if refusal is not None:
            self._refuse(refusal)
        elif file is not None:
            self._send(HTTPStatus.OK, file.content, file.content_type)
        else:
            self._ask(path, {name: values[-1] for name, values in parse_qs(query).items()})

    def _wrong_path_or_body(self, path: str) -> Refusal | None:
        method = "GET" if path in self.server.files else _PATHS.get(path)
        if method is None:
            return Refusal(HTTPStatus.NOT_FOUND, "not_found", f"There is no {path[:80]!a} here.")
        if self.command != method and (self.command, method) != ("HEAD", "GET"):
            return _only_methods(method)
        lengths = self.headers.get_all("Content-Length", ["0"] if method == "GET" else [])
        length = lengths[0].strip() if len(lengths) == 1 else ""
        if "Transfer-Encoding" in self.headers or not (length.isascii() and length.isdigit()):
            return Refusal(
                HTTPStatus.LENGTH_REQUIRED, "no_length", "Expected a body with one Content-Length."
            )
        most = MOST_BYTES if method == "POST" else 0
        if len(length) > 12 or int(length) > most:
            return Refusal(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                "request_too_large",
                f"Got {length[:20]} bytes, expected {most} at most.",
            )
        return None

    def _ask(self, path: str, query: Mapping[str, str]) -> None:
        # Read in any case: what stays would be the next request of the connection.
        length = int(self.headers.get("Content-Length", "0"))
        image = self.rfile.read(length)
        if len(image) < length:  # whoever asked has gone away
            self.close_connection = True
            return
        if path == _PICTURE:
            self._show(image)
            return
        asked, model, version = self.server.asked, query.get("model"), query.get("version")
        if asked is None:
            why = "The server is starting: its models are being loaded."
            self._refuse(Refusal(HTTPStatus.SERVICE_UNAVAILABLE, "starting", why))
            return
        try:
            if path == _MODELS:
                self._send_json(HTTPStatus.OK, {**asked.models(), "most_bytes": MOST_BYTES})
            elif model is None or (path == _ABOUT and version is None):
                why = "Expected ?model=NAME&version=VERSION."
                self._refuse(Refusal(HTTPStatus.BAD_REQUEST, "no_model", why))
            elif path == _ABOUT:
                self._send_json(HTTPStatus.OK, asked.about(model, str(version)))
            else:
                answer = asked.predict(model, version, image)
                kind = answer.headers.get("content-type", "application/octet-stream")
                self._send(answer.status_code, answer.content, kind)
        except ClientError as error:
            self._refuse(Refusal(HTTPStatus.BAD_GATEWAY, "no_answer", str(error)))

    def _show(self, photo: bytes) -> None:
        try:
            self._send(HTTPStatus.OK, upright_png(photo), "image/png")
        except RequestError as error:
            self._refuse(Refusal(HTTPStatus(error.status), error.code, str(error)))

    def _refuse(self, refusal: Refusal) -> None:
        self.close_connection = True  # a body may be there that nobody has read
        content = {"error": {"code": refusal.code, "message": refusal.message}}
        self._send_json(refusal.status, content)

    def _send_json(self, status: HTTPStatus, content: Mapping[str, Any]) -> None:
        self._send(status, json.dumps(content).encode(), "application/json")

    def _send(self, status: int, body: bytes, content_type: str) -> None:
        self.send_response(status)
        for name, value in SECURITY_HEADERS.items():
            self.send_header(name, value)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _only_methods(methods: str) -> Refusal:
    return Refusal(HTTPStatus.METHOD_NOT_ALLOWED, "wrong_method", f"Expected {methods}.")
