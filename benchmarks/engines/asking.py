"""The clients: one and the same call of the Open Inference Protocol, whichever engine answers.

A JPEG goes in binary, as BYTES, and the output ``reply`` comes back, which is the JSON that
TorchServe answers a prediction with. A client keeps its connection, as clients do.
"""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count

import numpy as np
import orjson

from benchmarks.shared.errors import BenchError
from tests.engines.reference import without_id

_TIMEOUT = 60.0
_PAUSE = 0.05
"""Seconds that a client waits after a request that failed."""


@dataclass(frozen=True)
class Sent:
    """One request."""

    began: float
    """As ``time.perf_counter`` has it."""
    ended: float
    failed: str = ""
    """What went wrong; empty where it was answered."""


@dataclass(frozen=True)
class Turn:
    """What an engine did while it was asked."""

    began: float
    ended: float
    sent: tuple[Sent, ...]
    """By the end of each."""

    @property
    def answered(self) -> list[Sent]:
        return [each for each in self.sent if not each.failed]

    @property
    def failures(self) -> list[str]:
        return [each.failed for each in self.sent if each.failed]

    @property
    def rate(self) -> float:
        """Images a second."""
        return len(self.answered) / (self.ended - self.began)

    def latency(self, percent: float) -> float:
        """A percentile of what clients waited, in milliseconds."""
        waited = [1000 * (each.ended - each.began) for each in self.answered]
        return float(np.percentile(waited, percent))


@dataclass
class Asking:
    """Clients of one engine, for as long as the ``with`` block lasts."""

    address: tuple[str, int]
    model: str
    images: Sequence[bytes]
    clients: int
    turn: Turn = field(init=False)
    """There when the block has ended."""

    def __enter__(self) -> Asking:
        self._sent: list[Sent] = []
        self._stop = threading.Event()
        self._next = count()
        self._threads = [threading.Thread(target=self._client) for _ in range(self.clients)]
        self._began = time.perf_counter()
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        ended = time.perf_counter()
        self._stop.set()
        for thread in self._threads:
            thread.join()
        sent = sorted((each for each in self._sent if each.ended <= ended), key=_end)
        self.turn = Turn(self._began, ended, tuple(sent))

    def _client(self) -> None:
        connection = http.client.HTTPConnection(*self.address, timeout=_TIMEOUT)
        while not self._stop.is_set():
            image = self.images[next(self._next) % len(self.images)]
            began, failed = time.perf_counter(), ""
            try:
                ask(connection, self.model, image)
            except (BenchError, OSError, http.client.HTTPException) as error:
                failed = f"{type(error).__name__}: {error}"
                connection.close()
                self._stop.wait(_PAUSE)
            self._sent.append(Sent(began, time.perf_counter(), failed))
        connection.close()


def ask(connection: http.client.HTTPConnection, model: str, image: bytes) -> bytes:
    """The reply to one image, without its id.

    Raises:
        BenchError: it is none.
    """
    element = len(image).to_bytes(4, "little") + image
    about = {"binary_data_size": len(element)}
    given = {"name": "image", "datatype": "BYTES", "shape": [1], "parameters": about}
    wanted = {"name": "reply", "parameters": {"binary_data": False}}
    head = json.dumps({"inputs": [given], "outputs": [wanted]}).encode()
    headers = {
        "Content-Type": "application/octet-stream",
        "Inference-Header-Content-Length": str(len(head)),
    }
    connection.request("POST", f"/v2/models/{model}/infer", head + element, headers)
    response = connection.getresponse()
    body = response.read()
    if response.status != 200:
        raise BenchError(f"HTTP {response.status}: {body[:200]!r}")
    (output,) = orjson.loads(body)["outputs"]
    (reply,) = output["data"]
    return without_id(reply.encode())


def _end(sent: Sent) -> float:
    return sent.ended
