"""What a server says of each fault, over HTTP and gRPC, and servers that say it and count requests.

The words are TorchServe 0.12's, as a server said them.
"""

from __future__ import annotations

import json
import socket
import ssl
import struct
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import grpc

from d2serve.client.predict.grpc_stubs import PREDICTIONS_METHOD, inference_messages
from d2serve.handlers.errors import RequestError
from tests.client import handmade


@dataclass(frozen=True)
class Answer:
    """One and the same over both protocols."""

    status: int
    body: bytes
    grpc_code: grpc.StatusCode = grpc.StatusCode.OK
    """Of OK, the body is the prediction."""
    grpc_details: str = ""


@dataclass
class Requests:
    """What reached a server."""

    address: str
    times: list[float] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    """Of each, by name in lower case; in gRPC its metadata."""
    deadlines: list[float | None] = field(default_factory=list)
    """Of each, as HTTP's header or gRPC's input says it; None where it says none."""


@dataclass(frozen=True)
class Identity:
    """What a server shows for itself over TLS: PEM files."""

    certificate: Path
    key: Path


GOOD = Answer(200, json.dumps(handmade.reply(4, 6, instances=[])).encode())
GARBAGE = Answer(200, b"[1, 2, 3]")


def of_the_handler(code: str, status: int, **more: str) -> Answer:
    return Answer(status, json.dumps({"error": {"code": code, "message": "told"}, **more}).encode())


def of_torchserve(status: int, kind: str, message: str, code: grpc.StatusCode, end: str) -> Answer:
    body = {"code": status, "type": kind, "message": message}
    return Answer(status, json.dumps(body, indent=2).encode(), code, message + end)


_FAILED = "\norg.pytorch.serve.http.InternalServerException"
_UNKNOWN = "\norg.pytorch.serve.archive.model."
_NO_WORKER = 'Model "m" has no worker to serve inference request. Please use scale workers API to '
_INTERNAL, _UNAVAILABLE = grpc.StatusCode.INTERNAL, grpc.StatusCode.UNAVAILABLE

HANDLERS = {
    kind.code: of_the_handler(kind.code, kind.status) for kind in RequestError.__subclasses__()
}
TORCHSERVES = {
    ("InvalidKeyException", 400): of_torchserve(
        400,
        "InvalidKeyException",
        "Token Authorization failed. Token either incorrect, expired, or not provided correctly",
        grpc.StatusCode.PERMISSION_DENIED,
        "",
    ),
    ("BadRequestException", 400): of_torchserve(
        400,
        "BadRequestException",
        "Parameter model_name is required.",
        _INTERNAL,
        "\nBadRequestException.()",
    ),
    ("ModelNotFoundException", 404): of_torchserve(
        404,
        "ModelNotFoundException",
        "Model not found: m",
        _INTERNAL,
        f"{_UNKNOWN}ModelNotFoundException",
    ),
    ("ModelVersionNotFoundException", 404): of_torchserve(
        404,
        "ModelVersionNotFoundException",
        "Model version: 9 does not exist for model: m",
        _INTERNAL,
        f"{_UNKNOWN}ModelVersionNotFoundException",
    ),
    ("no body", 413): Answer(413, b"", grpc.StatusCode.CANCELLED, "Received RST_STREAM"),
    ("ServiceUnavailableException", 503): of_torchserve(
        503,
        "ServiceUnavailableException",
        f"{_NO_WORKER}add workers.",
        _INTERNAL,
        "\nInternalServerException.()",
    ),
    ("InternalServerException", 500): of_torchserve(
        500, "InternalServerException", "Worker died.", _INTERNAL, _FAILED
    ),
    ("InternalServerException", 503): of_torchserve(
        503, "InternalServerException", "Prediction failed", _UNAVAILABLE, _FAILED
    ),
    ("InternalServerException", 507): of_torchserve(
        507, "InternalServerException", "Out of resources", _INTERNAL, _FAILED
    ),
}
ONLY_HTTP = {
    (kind, status): Answer(status, json.dumps({"code": status, "type": kind}).encode())
    for status, kinds in {
        400: ("InvalidModelException", "DownloadArchiveException"),
        403: (
            "IllegalArgumentException",
            "UnsupportedCharsetException",
            "InvalidModelVersionException",
        ),
        404: ("ResourceNotFoundException", "WorkflowNotFoundException"),
        405: ("MethodNotAllowedException",),
        408: ("RequestTimeoutException",),
        409: ("ConflictStatusException",),
        500: ("ErrorDataDecoderException",),
        507: ("OutOfMemoryError",),
    }.items()
    for kind in kinds
}
"""What gRPC and our own requests for predictions do not come to."""
ONLY_HTTP["no body", 417] = Answer(417, b"")
ONLY_HTTP["no type", 501] = Answer(501, b'{\n  "error": "Model versioning is not yet ..."\n}')


@contextmanager
def http_server(*answers: Answer, identity: Identity | None = None) -> Iterator[Requests]:
    """Gives each answer once, the last one again and again; with an ``identity`` over TLS."""
    asked = Requests("")

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("content-length", 0)))
            asked.deadlines.append(_number(self.headers.get("x-request-deadline")))
            answer = _next(asked, answers, self.headers.items())
            self.send_response(answer.status)
            self.send_header("x-request-id", "of-the-header")
            self.send_header("content-length", str(len(answer.body)))
            self.end_headers()
            self.wfile.write(answer.body)

        def do_GET(self) -> None:
            self.do_POST()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    if identity is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(identity.certificate, identity.key)
        server.socket = context.wrap_socket(
            server.socket, server_side=True, do_handshake_on_connect=False
        )
    asked.address = f"127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield asked
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def grpc_server(*answers: Answer, identity: Identity | None = None) -> Iterator[Requests]:
    """As ``http_server``."""
    asked = Requests("")
    messages = inference_messages()

    def answered(request: bytes, context: Any) -> bytes:
        inputs = messages.predictions_request.FromString(request).input
        asked.deadlines.append(_number(dict(inputs).get("deadline")))
        answer = _next(asked, answers, context.invocation_metadata())
        if answer.grpc_code is not grpc.StatusCode.OK:
            context.abort(answer.grpc_code, answer.grpc_details)
        prediction: bytes = messages.prediction_response(prediction=answer.body).SerializeToString()
        return prediction

    service, method = PREDICTIONS_METHOD.strip("/").split("/")
    handler = grpc.method_handlers_generic_handler(
        service, {method: grpc.unary_unary_rpc_method_handler(answered)}
    )
    server = grpc.server(ThreadPoolExecutor(2), handlers=[handler])
    if identity is None:
        port = server.add_insecure_port("127.0.0.1:0")
    else:
        pair = (identity.key.read_bytes(), identity.certificate.read_bytes())
        port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([pair]))
    asked.address = f"127.0.0.1:{port}"
    server.start()
    try:
        yield asked
    finally:
        server.stop(None).wait()


def _number(text: str | bytes | None) -> float | None:
    return None if text is None else float(text)


def _next(asked: Requests, answers: Sequence[Answer], headers: Iterable[tuple[str, str]]) -> Answer:
    asked.times.append(time.monotonic())
    asked.headers.append({name.lower(): value for name, value in headers})
    return answers[min(len(asked.times), len(answers)) - 1]


@contextmanager
def silent_server(*, hangs_up: bool, grpc_frames: bool) -> Iterator[Requests]:
    """Takes requests and gives no answer: hangs up when one has come, or keeps it waiting."""
    listener = socket.create_server(("127.0.0.1", 0))
    asked = Requests(f"127.0.0.1:{listener.getsockname()[1]}")
    kept: list[socket.socket] = []

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:  # closed: the test is over
                return
            kept.append(connection)
            threading.Thread(target=take, args=(connection,), daemon=True).start()

    def take(connection: socket.socket) -> None:
        with connection.makefile("rwb") as stream:
            if grpc_frames:
                _until_headers_of_http2(stream)
            elif not stream.readline().startswith(b"POST "):
                return
            asked.times.append(time.monotonic())
            if hangs_up:
                # With what was not read yet, this is a reset.
                connection.shutdown(socket.SHUT_RDWR)

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield asked
    finally:
        listener.close()
        for each in kept:
            each.close()


def _until_headers_of_http2(stream: Any) -> None:
    """Up to the first frame that opens a call (RFC 9113, sections 3.4, 4.1 and 6.2)."""
    stream.read(24)  # the preface
    stream.write(struct.pack(">HBBBL", 0, 0, 4, 0, 0))  # our settings: none
    stream.flush()
    kind, opens_a_call = None, 1
    while kind != opens_a_call:
        high, low, kind, flags, _ = struct.unpack(">BHBBL", stream.read(9))
        stream.read(high << 16 | low)
        is_settings, acknowledged = kind == 4, flags & 1
        if is_settings and not acknowledged:
            stream.write(struct.pack(">HBBBL", 0, 0, 4, 1, 0))
            stream.flush()
