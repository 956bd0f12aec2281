"""The address of the page: on this machine only, whatever else is open to others.

It is there before TorchServe is started and after it has ended, in threads of its own.

    with PageServer(8087, Ports()) as page:
        with TorchServeProcess({"shapes": "shapes.mar"}) as server:
            page.serving(server, server.key_file)
            print(page.address)
"""

from __future__ import annotations

import contextlib
import threading
from dataclasses import asdict
from pathlib import Path

from d2serve.client.errors import ServerStartError
from d2serve.server.page.answering import ListeningServer
from d2serve.server.page.asking import AskedServer
from d2serve.server.torchserve.clients import ReachableServer
from d2serve.server.torchserve.config.ports import LOOPBACK, Ports

DEFAULT_PORT = 8087


class PageServer:
    """Hands out the page, and asks TorchServe for it, while it is entered as a context."""

    def __init__(self, port: int, others: Ports) -> None:
        """
        Args:
            port: to listen on.
            others: the ports of TorchServe.

        Raises:
            ServerStartError: the port is one of the others.
        """
        for purpose, other in asdict(others).items():
            if port == other:
                raise ServerStartError(
                    f"Port {port} is to be that of the page and that of "
                    f"{purpose.replace('_', ' ')}. Choose another one: d2serve serve --page-port …"
                )
        self._port = port
        self._listening: ListeningServer | None = None

    @property
    def address(self) -> str:
        """Of the page, with the key that it asks for."""
        key = "" if self._listening is None else self._listening.guard.key
        return f"http://{LOOPBACK}:{self._port}/#{key}"

    def serving(self, server: ReachableServer, key_file: Path | None) -> None:
        """The server has been started: ask it from now on.

        Args:
            server: which runs.
            key_file: with its tokens, where people find it; None where it asks for none.
        """
        assert self._listening is not None
        self._listening.asked = AskedServer(server, key_file)

    def __enter__(self) -> PageServer:
        """Listen.

        Raises:
            ServerStartError: the port is taken.
        """
        try:
            self._listening = ListeningServer(self._port)
        except OSError as error:
            raise ServerStartError(
                f"The page cannot be shown at {LOOPBACK}, port {self._port} "
                f"({error.strerror or error}). Is another `d2serve serve` running? Choose another "
                "port: d2serve serve --page-port …"
            ) from error
        threading.Thread(target=self._listening.serve_forever, name="page", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._listening is None:
            return
        self._listening.shutdown()
        self._listening.server_close()
        asked, self._listening.asked = self._listening.asked, None
        with contextlib.suppress(RuntimeError):  # still being used by a thread
            if asked is not None:
                asked.close()
