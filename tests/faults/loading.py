"""Clients that ask one model again and again, over HTTP and gRPC, and what became of it."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from d2serve.client import D2ServeClient, D2ServeGrpcClient
from d2serve.client.connection.retrying import NO_RETRY
from d2serve.client.errors import ClientError
from d2serve.server.torchserve.process import TorchServeProcess


@dataclass(frozen=True)
class Answer:
    """One request's end."""

    asked: float
    """time.monotonic()."""
    seconds: float
    version: str
    """Of the answer, or the error."""
    has_failed: bool = False


class Asking:
    """Threads that go on until the context is left, and must then end."""

    def __init__(self, threads: Iterable[threading.Thread], over: threading.Event) -> None:
        """
        Args:
            threads: not started yet.
            over: is set to tell them to stop.
        """
        self._threads, self._over = list(threads), over

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(timeout=60)
        assert not any(thread.is_alive() for thread in self._threads), "no client hangs"


class Load(Asking):
    """Clients in threads, half of them over gRPC, none of which asks a second time; they name no
    version."""

    def __init__(
        self,
        server: TorchServeProcess,
        name: str,
        image: bytes,
        *,
        pause: float,
        clients: int = 8,
    ) -> None:
        """
        Args:
            server, name, image: whom they ask what.
            pause: seconds between an answer and the next request of a client.
            clients: how many there are.
        """
        self._pause = pause
        self._server, self._name, self._image = server, name, image
        self._answers: list[Answer] = []
        super().__init__(
            (threading.Thread(target=self._ask, args=(i % 2 == 0,)) for i in range(clients)),
            threading.Event(),
        )

    def _ask(self, is_http: bool) -> None:
        server = self._server
        made: D2ServeClient | D2ServeGrpcClient
        if is_http:
            made = D2ServeClient(server.inference_address, key_file=server.key_file, retry=NO_RETRY)
        else:
            made = D2ServeGrpcClient(server.grpc_address, key_file=server.key_file, retry=NO_RETRY)
        with made as client:
            while not self._over.is_set():
                began = time.monotonic()
                try:
                    version, has_failed = client.predict(self._name, self._image).version, False
                except ClientError as error:
                    version, has_failed = f"{type(error).__name__}: {error}", True
                taken = time.monotonic() - began
                self._answers.append(Answer(began, taken, version, has_failed))
                self._over.wait(self._pause)

    def answers(self, since: float = 0.0) -> list[Answer]:
        """Those to requests that were sent after a moment, in the order of asking."""
        return sorted(
            (each for each in [*self._answers] if each.asked >= since), key=lambda each: each.asked
        )

    def failures(self) -> Counter[str]:
        return Counter(each.version for each in self.answers() if each.has_failed)

    def slowest(self, since: float = 0.0) -> float:
        """Seconds."""
        return max(each.seconds for each in self.answers(since))
