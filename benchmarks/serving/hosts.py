"""Starts, asks and ends every side in the same way, whatever server it stands on.

There is one TorchServe for each setup (workers x threads), since OMP_NUM_THREADS belongs to a
server's environment; sides are registered on it and unregistered. A worker that gets no requests
waits on its socket.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from types import TracebackType

import httpx

from benchmarks.served.cpp_process import CppProcess
from benchmarks.served.fastapi_process import FastApiProcess
from benchmarks.served.sides import CPP, FASTAPI, SIDES
from benchmarks.serving.plan import Setup
from benchmarks.shared.errors import BenchError
from benchmarks.shared.memory import Memory, memory_of
from d2serve.server.torchserve.process import TorchServeProcess

Ask = Callable[[bytes], bytes]
"""Sends an encoded picture and waits for the reply."""

_SECONDS_FOR_AN_ANSWER = 120.0  # TorchServe's own default_response_timeout


@dataclass(frozen=True)
class Served:
    """A side whose workers are READY."""

    side: str
    setup: Setup
    asks: tuple[Ask, ...]
    """One for each client; there are as many clients as workers."""
    pids: tuple[int, ...]
    """Of the workers."""
    stop: Callable[[], None]
    """Ends the workers."""

    def memory(self) -> Memory:
        """Mean memory of the workers now."""
        return memory_of(self.pids)

    def asked_for(self, options: Mapping[str, str]) -> Served:
        """The same workers, asked with options of a request; of a TorchServe only."""
        asks = [replace(ask, options=options) for ask in self.asks if isinstance(ask, HttpAsk)]
        return replace(self, asks=tuple(asks))


class Hosts:
    """Starts sides; as a context manager, ends whatever is left of them."""

    def __init__(self, store: Path, eager_model: Path) -> None:
        """
        Args:
            store: the folder with the archives, SIDE.mar each.
            eager_model: the folder with config.yaml and model.pth, which FastAPI serves.
        """
        self._store = store
        self._eager_model = eager_model
        self._stack = ExitStack()
        self._servers: dict[int, TorchServeProcess] = {}

    def start(self, side: str, setup: Setup) -> Served:
        """Start the workers of a side, and return when each is READY.

        Raises:
            ClientError, BenchError: it does not load.
        """
        if side == FASTAPI:
            return self._processes(setup)
        if side == CPP:
            return self._programs(setup)
        server = self.torchserve(setup.threads)
        described = server.management.register(
            f"{side}.mar", model_name=side, initial_workers=setup.workers
        )
        token = server.inference_token
        headers = {} if token is None else {"authorization": f"Bearer {token}"}
        ask = HttpAsk(server.inference_address, f"/predictions/{side}", headers)
        return Served(
            side,
            setup,
            asks=(ask,) * setup.workers,  # TorchServe hands requests to whoever is free
            pids=tuple(worker.pid for worker in described.workers),
            stop=lambda: _unregister(server, side),
        )

    def torchserve(self, threads: int) -> TorchServeProcess:
        """The running server whose workers have that many threads; started when first asked for."""
        if threads not in self._servers:
            server = TorchServeProcess(
                model_store=self._store,
                enable_model_api=True,
                environment={"OMP_NUM_THREADS": str(threads)},
            )
            self._servers[threads] = self._stack.enter_context(server)
        return self._servers[threads]

    def _processes(self, setup: Setup) -> Served:
        processes = ExitStack()
        self._stack.push(processes)
        # All at once, as the workers of a TorchServe are; READY is when the last one is.
        started = [
            processes.enter_context(FastApiProcess(self._eager_model, setup.threads))
            for _ in range(setup.workers)
        ]
        for each in started:
            each.wait_ready()
        return Served(
            FASTAPI,
            setup,
            asks=tuple(HttpAsk(each.address, "/predict", {}) for each in started),
            pids=tuple(each.pid for each in started),
            stop=processes.close,
        )

    def _programs(self, setup: Setup) -> Served:
        programs = ExitStack()
        self._stack.push(programs)
        archive = self._store / f"{SIDES[CPP].made_of}.mar"
        started = [
            programs.enter_context(CppProcess(archive, setup.threads)) for _ in range(setup.workers)
        ]
        for each in started:
            each.wait_ready()
        return Served(
            CPP,
            setup,
            asks=tuple(each.ask for each in started),
            pids=tuple(each.pid for each in started),
            stop=programs.close,
        )

    def __enter__(self) -> Hosts:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stack.__exit__(kind, error, traceback)


def _unregister(server: TorchServeProcess, side: str) -> None:
    server.management.unregister(side)


@dataclass(frozen=True)
class HttpAsk:
    """Sends pictures to one address, keeping its connections; may be used by many threads."""

    address: str
    path: str
    headers: Mapping[str, str]
    options: Mapping[str, str] | None = None
    """Sent with the picture, in a form: TorchServe drops the query of /predictions. Without, the
    picture is the body."""

    @cached_property
    def _client(self) -> httpx.Client:
        return httpx.Client(
            base_url=self.address,
            timeout=_SECONDS_FOR_AN_ANSWER,
            trust_env=False,  # a proxy must not get requests that stay on this machine
            verify=False,  # nothing is encrypted; to read all certificates takes 30 ms at first
            headers=dict(self.headers),
        )

    def __call__(self, image: bytes) -> bytes:
        if self.options is None:
            as_it_is = {"content-type": "application/octet-stream"}
            response = self._client.post(self.path, content=image, headers=as_it_is)
        else:
            form = {"data": image}
            response = self._client.post(self.path, files=form, data=dict(self.options))
        if response.status_code != 200:
            raise BenchError(
                f"{self.path} answered HTTP {response.status_code}, expected 200: "
                f"{response.content[:300]!r}. The server's log says why."
            )
        return response.content
