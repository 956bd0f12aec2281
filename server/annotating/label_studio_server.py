"""The HTTP of a Label Studio ML backend, with Python's own server.

Label Studio asks from its own machine, by JSON, and with a user's name and password at most.
Whoever else reaches the address must not be able to make this machine do more than answer:

- Where others reach it, there has to be a password.
- Where only this machine does, a browser on it does as well. So what is asked has to be JSON, which
  a page of another origin may not send, and by a name of this machine, which such a page has not.
"""

from __future__ import annotations

import base64
import hmac
import json
import logging
import socket
import threading
from collections.abc import Callable, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Optional

from d2serve.client.connection.addresses import is_loopback
from d2serve.client.errors import (
    ClientError,
    InvalidInput,
    RequestRejected,
    ServerOverloaded,
    ServerStartError,
    ServerUnavailable,
)
from d2serve.server.annotating.label_studio import LabelStudioBackend

DEFAULT_PORT = 9090
"""That of Label Studio's own backends."""
MOST_BODY_BYTES = 64 << 20
"""Of a question: tasks with their images in them as ``data:`` URIs."""
_MOST_AT_ONCE = 32
_SECONDS = 60.0

_log = logging.getLogger(__name__)

Login = Optional[tuple[str, str]]


class LabelStudioServer(ThreadingHTTPServer):
    """Answers Label Studio at an address of this machine: ``serve_forever``, ``shutdown``."""

    daemon_threads = True

    def __init__(
        self, backend: LabelStudioBackend, host: str, port: int, login: Login = None
    ) -> None:
        """
        Args:
            backend: who answers.
            host: the address of this machine to listen on.
            port: to listen on; 0 is any free one.
            login: the user and password that have to be given; None asks for none.

        Raises:
            ServerStartError: others could reach it without a password, or the address is not to be
                had.
        """
        self.is_for_this_machine = is_loopback(f"http://{_in_brackets(host)}")
        if login is None and not self.is_for_this_machine:
            raise ServerStartError(
                f"Others would reach {host} without a password, and read images with the API key "
                "of Label Studio. Set BASIC_AUTH_USER and BASIC_AUTH_PASS, and give both to Label "
                "Studio where the model is connected (Basic Authentication); or leave out --host."
            )
        self.backend = backend
        self.login = login
        self.free_places = threading.BoundedSemaphore(_MOST_AT_ONCE)
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            super().__init__((host, port), _Handler)
        except (OSError, OverflowError) as error:
            raise ServerStartError(
                f"Label Studio cannot be answered at {host}, port {port} "
                f"({getattr(error, 'strerror', None) or error}). Is another backend running? "
                "Choose another port: d2serve label-studio --port …"
            ) from error
        self.address = f"http://{_in_brackets(host)}:{self.server_port}"


class _Refused(Exception):
    """The question is not answered, with this status."""

    def __init__(self, status: HTTPStatus, message: str) -> None:
        super().__init__(message)
        self.status = status


class _Handler(BaseHTTPRequestHandler):
    server: LabelStudioServer
    protocol_version = "HTTP/1.1"
    server_version = "d2serve"
    sys_version = ""
    timeout = _SECONDS

    def do_GET(self) -> None:
        self._answer({"/": self._health, "/health": self._health, "/metrics": dict})

    def do_POST(self) -> None:
        self._answer(
            {
                "/predict": lambda: self.server.backend.predict(self._body()),
                "/setup": lambda: self.server.backend.setup(self._body()),
                # The model does not learn: these are taken, and nothing is done.
                "/train": self._nothing,
                "/webhook": self._nothing,
            }
        )

    def _health(self) -> dict[str, Any]:
        return self.server.backend.health()

    def _nothing(self) -> dict[str, Any]:
        self._body()
        return {}

    def _answer(self, questions: Mapping[str, Callable[[], dict[str, Any]]]) -> None:
        status, answer = HTTPStatus.OK, {}
        path = self.path.partition("?")[0].rstrip("/") or "/"
        if not self.server.free_places.acquire(blocking=False):
            self._send(HTTPStatus.SERVICE_UNAVAILABLE, _error("Too many questions at once."))
            return
        try:
            self._require_permitted()
            if path not in questions:
                raise _Refused(HTTPStatus.NOT_FOUND, f"There is no {self.command} {path} here.")
            answer = questions[path]()
            if path in ("/train", "/webhook"):
                status = HTTPStatus.CREATED
        except _Refused as error:
            status, answer = error.status, _error(str(error))
        except ClientError as error:
            status, answer = _status(error), _error(str(error))
        except TimeoutError:
            status, answer = (
                HTTPStatus.REQUEST_TIMEOUT,
                _error("The question did not come in time."),
            )
        except Exception as error:
            _log.exception("d2serve: %s failed", path)
            status = HTTPStatus.INTERNAL_SERVER_ERROR
            answer = _error(f"The backend failed ({type(error).__name__}).")
        finally:
            self.server.free_places.release()
        if status >= HTTPStatus.BAD_REQUEST:
            _log.warning("d2serve: %s %s: %s", self.command, path, answer["error"])
        self._send(status, answer)

    def _require_permitted(self) -> None:
        login = self.server.login
        if login is not None:
            wanted = "Basic " + base64.b64encode(":".join(login).encode()).decode()
            given = self.headers.get("Authorization", "")
            if not hmac.compare_digest(wanted.encode(), given.encode()):
                raise _Refused(HTTPStatus.UNAUTHORIZED, "The user or the password is wrong.")
        elif not is_loopback(f"http://{self.headers.get('Host', '')}"):
            raise _Refused(
                HTTPStatus.FORBIDDEN,
                f"Asked as {self.headers.get('Host')!r}, expected localhost or 127.0.0.1: without "
                "a password only this machine is answered.",
            )

    def _body(self) -> dict[str, Any]:
        kind = self.headers.get_content_type()
        if kind != "application/json":
            raise _Refused(
                HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"Got {kind}, expected application/json."
            )
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal():
            raise _Refused(HTTPStatus.LENGTH_REQUIRED, "The question has no Content-Length.")
        if int(length) > MOST_BODY_BYTES:
            raise _Refused(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                f"The question has {int(length):,} bytes, expected up to {MOST_BODY_BYTES:,}.",
            )
        try:
            body = json.loads(self.rfile.read(int(length)))
        except (ValueError, RecursionError) as error:
            raise InvalidInput(f"The question is not JSON ({error}).") from error
        if not isinstance(body, dict):
            raise InvalidInput(f"The question is a {type(body).__name__}, expected an object.")
        return body

    def _send(self, status: HTTPStatus, answer: Mapping[str, Any]) -> None:
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if status is HTTPStatus.UNAUTHORIZED:
            self.send_header("WWW-Authenticate", 'Basic realm="d2serve"')
        if status >= HTTPStatus.BAD_REQUEST:  # of which the body may not have been read
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        _log.debug(format, *args)


def _status(error: ClientError) -> HTTPStatus:
    if isinstance(error, InvalidInput):
        return HTTPStatus.BAD_REQUEST
    if isinstance(error, RequestRejected):
        return HTTPStatus(error.status or HTTPStatus.BAD_REQUEST)
    if isinstance(error, (ServerOverloaded, ServerUnavailable)):
        return HTTPStatus.SERVICE_UNAVAILABLE
    return HTTPStatus.INTERNAL_SERVER_ERROR


def _error(message: str) -> dict[str, Any]:
    return {"error": message}


def _in_brackets(host: str) -> str:
    return f"[{host}]" if ":" in host else host
