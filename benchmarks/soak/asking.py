"""Sends a round and looks at every answer. Only so is it seen when now and then one is missing,
belongs to another request, or is a 5xx."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from random import Random

import httpx

from benchmarks.soak.traffic import MODEL, OK, Request
from d2serve.client.connection.retrying import NO_RETRY
from d2serve.client.errors import ClientError, RequestRejected, ServerUnavailable
from d2serve.client.predict.grpc_client import D2ServeGrpcClient
from d2serve.server.torchserve.process import TorchServeProcess

_SECONDS_FOR_AN_ANSWER = 60.0
_SERVER_ERRORS = ("HTTP 5", "gRPC Server", "model_failed")
# TorchServe's id of a request, which no two replies share.
_REQUEST_ID = re.compile(rb"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


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

    def __init__(self, server: TorchServeProcess, count: int) -> None:
        self.outcomes = Outcomes()
        self._pool = ThreadPoolExecutor(count)
        self._http = httpx.Client(
            base_url=server.inference_address,
            headers={"authorization": f"Bearer {server.inference_token}"},
            timeout=_SECONDS_FOR_AN_ANSWER,
            trust_env=False,
        )
        self._grpc = D2ServeGrpcClient(
            server.grpc_address,
            key_file=server.key_file,
            timeout=_SECONDS_FOR_AN_ANSWER,
            retry=NO_RETRY,
        )
        self._server = server
        self._lock = threading.Lock()
        self._random = Random(0)
        self._first: dict[str, bytes] = {}

    def send(self, requests: Sequence[Request]) -> None:
        """Send a round in any order, and return when nothing is on its way any more."""
        # TorchServe's tokens hold for an hour.
        self._http.headers["authorization"] = f"Bearer {self._server.inference_token}"
        shuffled = self._random.sample(requests, len(requests))
        list(self._pool.map(self._ask, shuffled))

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)
        self._http.close()
        self._grpc.close()

    def _ask(self, request: Request) -> None:
        try:
            code, reply = self._answer(request)
        except (httpx.HTTPError, ServerUnavailable) as error:
            with self._lock:
                self.outcomes.unanswered[f"{request.name}: {type(error).__name__}"] += 1
            return
        content = hashlib.sha256(_REQUEST_ID.sub(b"", reply)).digest()
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
        headers = dict(request.headers)
        response = self._http.post(request.path, content=request.content, headers=headers)
        code = OK
        if response.status_code != 200:
            try:
                error = response.json()["error"]  # of the Open Inference Protocol it is a text
                code = error.split(":")[0] if isinstance(error, str) else str(error["code"])
            except (ValueError, KeyError, TypeError):  # TorchServe's own
                code = f"HTTP {response.status_code}"
        return code, response.content

    def _over_grpc(self, image: bytes) -> tuple[str, bytes]:
        try:
            answer = self._grpc.predict(MODEL, image)
        except RequestRejected as error:
            return error.code, str(error).encode()
        except ServerUnavailable:
            raise
        except ClientError as error:
            return f"gRPC {type(error).__name__}", str(error).encode()
        return OK, json.dumps(answer.raw).encode()
