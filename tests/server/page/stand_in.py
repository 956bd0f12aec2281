"""What a running TorchServe is to the page's server, doing as it is told: it hangs up, refuses a
token, answers any status."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from d2serve.server.torchserve.clients import ReachableServer
from d2serve.server.torchserve.config.listening import Listening
from d2serve.server.torchserve.config.ports import Ports

TOKEN = "token-that-no-browser-sees"
REPLY = b'{"model": "m", "version": "1.0", "image": {"height": 2, "width": 3}, "instances": []}'


@dataclass
class Said:
    """What it answers to a prediction, and what it was asked."""

    status: int = 200
    body: bytes = REPLY
    hangs_up: bool = False
    old_token: str | None = None
    """Refused, as after a renewal that the key file has and the sender has not."""
    asked: list[tuple[str, str, bytes]] = field(default_factory=list)
    """Method, path and body of each request."""


class StandIn(ReachableServer):
    """A TorchServe of two versions of ``m``, of which 1.0 is the default and 2.0 is not ready."""

    def __init__(self, folder: Path, port: int) -> None:
        super().__init__(Listening(Ports(inference=port, management=port)), {})
        self.said = Said()
        self._folder = folder
        self.write_token(TOKEN)

    @property
    def directory(self) -> Path:
        return self._folder

    def write_token(self, token: str) -> None:
        entry = {"key": token, "expiration time": "2999-01-01T00:00:00Z"}
        keys = {"management": entry, "inference": entry, "API": entry}
        (self._folder / "key_file.json").write_text(json.dumps(keys))

    def answer(self, method: str, path: str, token: str, body: bytes) -> tuple[int, bytes]:
        self.said.asked.append((method, path, body))
        if token == self.said.old_token:
            self.write_token(TOKEN)
            return 400, b'{"code": 400, "type": "InvalidKeyException", "message": "expired"}'
        if path.startswith("/predictions"):
            return self.said.status, self.said.body
        return 200, json.dumps(_managed(path)).encode()


def _managed(path: str) -> Any:
    if path.startswith("/models?"):
        return {"models": [{"modelName": "m", "modelUrl": "m.mar"}]}
    if "customized" in path:
        metadata = {"family": "Mask R-CNN", "score_thresh": 0.05, "limits": {}, "options": {}}
        return [{"customizedMetadata": metadata}]
    versions = [_version("1.0", "READY"), _version("2.0", "UNLOADING")]
    return versions if path.endswith("/all") else versions[:1]


def _version(version: str, status: str) -> dict[str, Any]:
    worker = {"id": "1", "status": status, "pid": 1, "gpu": False, "memoryUsage": 0}
    numbers = dict.fromkeys(("minWorkers", "maxWorkers", "batchSize", "maxBatchDelay"), 1)
    return {
        "modelName": "m",
        "modelVersion": version,
        "modelUrl": "m.mar",
        "workers": [worker],
        "jobQueueStatus": {"pendingRequests": 0},
        **numbers,
    }


@contextmanager
def standing_in(folder: Path) -> Iterator[StandIn]:
    """One that answers as long as this lasts."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.answer()

        def do_POST(self) -> None:
            self.answer()

        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
            if stand_in.said.hangs_up:
                self.close_connection = True
                return
            token = self.headers.get("Authorization", "").removeprefix("Bearer ")
            status, answer = stand_in.answer(self.command, self.path, token, body)
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    stand_in = StandIn(folder, server.server_port)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield stand_in
    finally:
        server.shutdown()
        server.server_close()
