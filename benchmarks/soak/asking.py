"""Sends a round and looks at every answer. Only so is it seen when now and then one is missing,
belongs to another request, or is a 5xx.

While the server's probe says that it is not ready, nothing is sent, as a load balancer would have
it. What was sent has to be answered; only where nobody listened is it sent again, and where the
token was renewed meanwhile, once.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from random import Random

import httpx

from benchmarks.soak.serving import Served
from benchmarks.soak.traffic import MODEL, OK, Request
from d2serve.client.connection.asking import Headers, ask
from d2serve.client.connection.http import unavailable_error
from d2serve.client.connection.retrying import Retry
from d2serve.client.connection.server_errors import http_error
from d2serve.client.connection.settings import Connection
from d2serve.client.errors import (
    AuthorizationError,
    ClientError,
    NotConnected,
    RequestRejected,
    ServerUnavailable,
)
from d2serve.client.predict.grpc_client import D2ServeGrpcClient

_SECONDS_FOR_AN_ANSWER = 60.0
_SECONDS_FOR_A_RESTART = 300.0
_SECONDS_BETWEEN_PROBES = 0.1
_SERVER_ERRORS = ("HTTP 5", "gRPC Server", "model_failed")
# TorchServe's id of a request, which no two replies share, and the version that answered.
_ITS_OWN = re.compile(
    rb'[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|"(?:model_)?version": ?"[^"]*"'
)


@dataclass
class Outcomes:
    """What came of all requests so far."""

    counts: Counter[str] = field(default_factory=Counter)
    """By what was answered: OK or a code."""
    unexpected: Counter[str] = field(default_factory=Counter)
    """Other answers than the right one, by request and answer."""
    unanswered: Counter[str] = field(default_factory=Counter)

    @property
    def total(self) -> int:
        """Requests sent."""
        return self.counts.total() + self.unanswered.total()

    @property
    def server_errors(self) -> int:
        """Answers of 5xx, and what is the same over gRPC."""
        return sum(n for code, n in self.counts.items() if code.startswith(_SERVER_ERRORS))


class Clients:
    """So many clients, each sending its next request when it has the answer to its last."""

    def __init__(self, served: Served, count: int) -> None:
        self.outcomes = Outcomes()
        self._pool = ThreadPoolExecutor(count)
        bridging = Retry(seconds=_SECONDS_FOR_A_RESTART, errors=(NotConnected,))
        self._connection = Connection(
            "inference", served.inference_address, key_file=served.key_file, retry=bridging
        )
        self._http = httpx.Client(
            base_url=served.inference_address, timeout=_SECONDS_FOR_AN_ANSWER, trust_env=False
        )
        self._grpc = D2ServeGrpcClient(
            served.grpc_address,
            key_file=served.key_file,
            timeout=_SECONDS_FOR_AN_ANSWER,
            retry=bridging,
        )
        self._gate = _Gate(served)
        self._lock = threading.Lock()
        self._random = Random(0)
        self._first: dict[str, bytes] = {}

    def send(self, requests: Sequence[Request]) -> None:
        """Send a round in any order, and return when nothing is on its way any more."""
        shuffled = self._random.sample(requests, len(requests))
        list(self._pool.map(self._ask, shuffled))

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)
        self._gate.close()
        self._http.close()
        self._grpc.close()

    def _ask(self, request: Request) -> None:
        self._gate.wait()
        try:
            code, reply = self._answer(request)
        except (ServerUnavailable, AuthorizationError) as error:
            with self._lock:
                self.outcomes.unanswered[f"{request.name}: {type(error).__name__}"] += 1
            return
        content = content_of(reply)
        with self._lock:
            self.outcomes.counts[code] += 1
            same = self._first.setdefault(request.name, content) == content
            if code != request.expects:
                self.outcomes.unexpected[f"{request.name}: {code}"] += 1
            elif not same:
                self.outcomes.unexpected[f"{request.name}: another answer than the first"] += 1

    def _answer(self, request: Request) -> tuple[str, bytes]:
        if request.path is None:
            return self._over_grpc(request.content)
        response = ask(self._connection, partial(self._post, request, request.path))
        code = OK
        if response.status_code != 200:
            try:
                error = response.json()["error"]  # of the Open Inference Protocol it is a text
                code = error.split(":")[0] if isinstance(error, str) else str(error["code"])
            except (ValueError, KeyError, TypeError):  # TorchServe's own
                code = f"HTTP {response.status_code}"
        return code, response.content

    def _post(self, request: Request, path: str, headers: Headers) -> httpx.Response:
        headers = {**request.headers, **headers}
        try:
            response = self._http.post(path, content=request.content, headers=headers)
        except httpx.HTTPError as error:
            raise unavailable_error(self._connection, error) from error
        if response.status_code >= 400:
            refusal = http_error(response.status_code, response.content, self._connection)
            if isinstance(refusal, AuthorizationError):
                raise refusal
        return response

    def _over_grpc(self, image: bytes) -> tuple[str, bytes]:
        try:
            answer = self._grpc.predict(MODEL, image)
        except RequestRejected as error:
            return error.code, str(error).encode()
        except (ServerUnavailable, AuthorizationError):
            raise
        except ClientError as error:
            return f"gRPC {type(error).__name__}", str(error).encode()
        return OK, json.dumps(answer.raw).encode()


def content_of(reply: bytes) -> bytes:
    """What has to be the same each time, as a digest."""
    return hashlib.sha256(_ITS_OWN.sub(b"", reply)).digest()


class _Gate:
    """Open while the server's probe says that it is ready."""

    def __init__(self, served: Served) -> None:
        self._served = served
        self._open = threading.Event()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def wait(self) -> None:
        """Return when it is open, or after as long as a restart may take."""
        self._open.wait(_SECONDS_FOR_A_RESTART)

    def close(self) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(_SECONDS_BETWEEN_PROBES):
            if self._served.is_ready():
                self._open.set()
            else:
                self._open.clear()
