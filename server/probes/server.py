"""The address of the probes: ``GET /live`` and ``GET /ready``.

It is there before TorchServe is started and after it has ended, in a thread of its own.

    ports = Ports.free()
    with ProbeServer("127.0.0.1", 8085, ports) as probes:
        with TorchServeProcess({"shapes": "shapes.mar"}, ports=ports) as server:
            probes.watch.serving(server)
"""

from __future__ import annotations

import asyncio
import socket
import threading
from dataclasses import asdict

from d2serve.client.errors import ServerStartError
from d2serve.server.probes.answers import HEADER_BYTES, ProbeAnswers
from d2serve.server.probes.verdicts import Verdict
from d2serve.server.probes.watch import ServerWatch
from d2serve.server.torchserve.config.ports import Ports

DEFAULT_PORT = 8085
_BACKLOG = 128
_SECONDS_TO_END = 5.0


class ProbeServer:
    """Answers probes of a watched server while it is entered as a context."""

    def __init__(self, host: str, port: int, others: Ports) -> None:
        """
        Args:
            host: the address of this machine to listen on; 0.0.0.0 is every one.
            port: to listen on; 0 answers nobody.
            others: the ports of the watched server.

        Raises:
            ServerStartError: the port is no number of one, or one of the others.
        """
        _require_port_of_its_own(port, others)
        self.watch = ServerWatch()
        self._host = host
        self._port = port
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    @property
    def address(self) -> str | None:
        """Where probes are answered; None where they are not."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self._port}" if self._port else None

    def __enter__(self) -> ProbeServer:
        """Listen.

        Raises:
            ServerStartError: the address is not to be had.
        """
        if not self._port:
            return self
        listening = _listening(self._host, self._port)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._run, args=(self._loop, listening), name="probes", daemon=True
        )
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._loop is not None and self._thread is not None:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(_SECONDS_TO_END)
        self.watch.close()

    def _run(self, loop: asyncio.AbstractEventLoop, listening: socket.socket) -> None:
        async def live() -> Verdict:
            return self.watch.live()

        answers = ProbeAnswers({"/live": ("live", live), "/ready": ("ready", self.watch.ready)})
        asyncio.set_event_loop(loop)
        server = loop.run_until_complete(
            asyncio.start_server(answers.handle, sock=listening, limit=HEADER_BYTES)
        )
        loop.run_forever()
        server.close()
        loop.run_until_complete(_end_tasks())
        loop.close()


async def _end_tasks() -> None:
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)


def _require_port_of_its_own(port: int, others: Ports) -> None:
    if not 0 <= port < 65_536:
        raise ServerStartError(
            f"Got the port {port} for probes, expected one from 1 to 65535, or 0 for none."
        )
    for purpose, other in asdict(others).items():
        if port == other:
            raise ServerStartError(
                f"Port {port} is to be that of the probes and that of {purpose.replace('_', ' ')}. "
                "Choose another one: d2serve serve --probe-port …"
            )


def _listening(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    both = host == "::" and socket.has_dualstack_ipv6()
    try:
        return socket.create_server(
            (host, port), family=family, backlog=_BACKLOG, dualstack_ipv6=both
        )
    except OSError as error:
        raise ServerStartError(
            f"Probes cannot be answered at {host}, port {port} ({error.strerror or error}). Is "
            "another `d2serve serve` running? Choose another port (d2serve serve --probe-port …, "
            "0 for none), and an address of this machine (--probe-host …)."
        ) from error
