"""KServe's ModelServer with our application over HTTP and our service over gRPC.

Of KServe's there stay the registry of models and what it tells of them, its metrics, the protocol's
messages, the interceptor of gRPC and the HTTP server. What is replaced are the three places where
bytes become answers or a signal becomes a stop.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from types import FrameType
from typing import Any, Callable

from grpc import aio

from d2serve.client.errors import ServerStartError
from d2serve.server.asgi.application import Limits
from d2serve.server.asgi.models import Models
from d2serve.server.kserve.front import Front
from d2serve.server.kserve.grpc_service import InferenceService
from d2serve.server.kserve.library import (
    ExceptionToStatusInterceptor,
    GRPCServer,
    ModelServer,
    RESTServer,
    app,
    services,
)
from d2serve.server.kserve.models import Served

_MOST_OF_IMAGE_BYTES = 2
"""An image in base64 is a third longer than its file, and options stand beside it."""
_FRAME = 1 << 20
"""What a message of gRPC has beside the image."""
_SAME_SIGNAL = 1.0
"""Seconds within which a second signal is no impatience: a terminal, and `timeout`, send one to the
parent and its workers alike."""


class _Rest(RESTServer):  # type: ignore[misc]
    """KServe's HTTP server, on a socket that is open already."""

    front: Callable[[Any], Front]
    listening: socket.socket
    on_ready: Callable[[], None]

    def create_application(self) -> None:
        self._register_endpoints(app)
        self._add_exception_handlers(app)
        self.config.app = self.front(app)
        self.config.lifespan = "off"  # there is nothing that begins or ends with the application

    async def start(self) -> None:
        self.create_application()
        telling = asyncio.ensure_future(self._tell())
        try:
            await self._server.serve(sockets=[self.listening])
        finally:
            telling.cancel()

    async def _tell(self) -> None:
        while not self._server.started:
            await asyncio.sleep(0.02)
        self.on_ready()

    def end(self) -> None:
        """Take no more, and end when what was taken is answered."""
        self._server.should_exit = True

    def hurry(self) -> None:
        """End without waiting for answers."""
        self._server.force_exit = True


class _Grpc(GRPCServer):  # type: ignore[misc]
    """KServe's gRPC server with our service, on an address of one's own."""

    service: InferenceService
    address: str
    most_bytes: int
    shared: bool

    async def start(self, max_workers: int) -> None:
        options = [
            ("grpc.max_receive_message_length", self.most_bytes),
            ("grpc.max_send_message_length", -1),
            ("grpc.so_reuseport", int(self.shared)),
        ]
        self._server = aio.server(
            ThreadPoolExecutor(max_workers),
            interceptors=(ExceptionToStatusInterceptor(),),
            options=options,
        )
        services.add_GRPCInferenceServiceServicer_to_server(self.service, self._server)
        try:
            self._server.add_insecure_port(self.address)
        except RuntimeError as error:
            raise ServerStartError(
                f"Nothing can listen on {self.address} ({error}): most likely another server does. "
                "Give another --grpc-port."
            ) from None
        await self._server.start()
        await self._server.wait_for_termination()


class ArchiveServer(ModelServer):  # type: ignore[misc]
    """Serves models until SIGTERM or Ctrl-C, and answers first what was asked."""

    def __init__(
        self, listening: socket.socket, grpc_port: int, drain_seconds: float, shared: bool
    ) -> None:
        """
        Args:
            listening: for HTTP.
            grpc_port: on the same address; 0 is no gRPC.
            drain_seconds: for which a stop waits for answers.
            shared: whether other processes listen on the port of gRPC as well.
        """
        host, port = listening.getsockname()[:2]
        super().__init__(
            http_port=port,
            grpc_port=grpc_port,
            workers=1,
            enable_grpc=grpc_port != 0,
            enable_latency_logging=False,
            grace_period=drain_seconds,
        )
        self._listening = listening
        self._host = host
        self._shared = shared
        self._asked_to_end: float | None = None
        self._ending: list[asyncio.Future[None]] = []

    def start(self, models: Sequence[Served], on_ready: Callable[[], None]) -> None:
        """Serve until a signal comes.

        Args:
            models: of a name, the first one answers where a request names no version.
            on_ready: is called once requests are answered.

        Raises:
            ServerStartError: the port of gRPC is not free.
        """
        asked = Models({f"{each.name}/{each.version}": each.ask for each in models})
        for each in reversed(models):  # the registry has one of each name
            self.register_model(each)
        most = _MOST_OF_IMAGE_BYTES * max(each.limits.max_image_bytes for each in models)
        parts = self.dataplane, self.model_repository_extension
        self._rest_server = _Rest(
            "replaced",
            *parts,
            self.http_port,
            grace_period=self.grace_period,
            ssl_certfile=self.ssl_certfile,
            ssl_keyfile=self.ssl_keyfile,
        )
        self._rest_server.listening = self._listening
        self._rest_server.front = lambda app: Front(app, asked, Limits(body_bytes=most))
        self._rest_server.on_ready = on_ready
        self._rest_server._server.handle_exit = self._end
        self.servers = [self._rest_server.start()]
        if self.enable_grpc:
            self._grpc_server = _Grpc(
                self.grpc_port, *parts, kwargs={}, grace_period=self.grace_period
            )
            self._grpc_server.service = InferenceService(asked)
            host = f"[{self._host}]" if ":" in self._host else self._host
            self._grpc_server.address = f"{host}:{self.grpc_port}"
            self._grpc_server.most_bytes = most + _FRAME
            self._grpc_server.shared = self._shared
            self.servers.append(self._grpc_server.start(self.max_threads))
        with contextlib.suppress(asyncio.CancelledError):
            asyncio.run(self._serve())

    def _end(self, _number: int, _frame: FrameType | None) -> None:
        """End both servers at once, so that the time to answer is the same for both."""
        rest, seconds, now = self._rest_server, self.grace_period, time.monotonic()
        if self._asked_to_end is not None:
            if now < self._asked_to_end + _SAME_SIGNAL:
                return
            rest.hurry()
            seconds = 0
        self._asked_to_end = now
        rest.end()
        if self._grpc_server is not None:
            loop = asyncio.get_running_loop()
            loop.call_soon_threadsafe(self._end_grpc, seconds)

    def _end_grpc(self, seconds: float) -> None:
        # Kept, or it could be collected before it is done.
        self._ending.append(asyncio.ensure_future(self._grpc_server._server.stop(seconds)))
