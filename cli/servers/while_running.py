"""What goes on around a server from its first answer to its last."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

from rich.console import Console

from d2serve.cli.servers.draining import drained
from d2serve.cli.servers.kept_state import KeptState
from d2serve.cli.servers.key_file import published_key_file
from d2serve.cli.servers.log_stream import LogStream
from d2serve.cli.servers.start_page import print_start_page
from d2serve.cli.servers.stopping import StopRequested
from d2serve.client.errors import ServerStartError
from d2serve.server.page.server import PageServer
from d2serve.server.probes.server import ProbeServer
from d2serve.server.torchserve.process import TorchServeProcess


@dataclass(frozen=True)
class Around:
    """What `d2serve serve` adds to a server."""

    log: LogStream
    told: Console
    """Where what is for people is written."""
    kept: KeptState
    probes: ProbeServer
    page: PageServer | None


def run_until_stopped(server: TorchServeProcess, around: Around, drain_seconds: float) -> None:
    """Serve until a signal, and then until all that was asked is answered.

    Args:
        server: it has been started, and is stopped in any case.
        around: what goes with it.
        drain_seconds: for which its end waits for answers.

    Raises:
        StopRequested: it was stopped.
        ServerStartError: it ended by itself.
    """
    with contextlib.ExitStack() as cleanup:
        cleanup.callback(around.log.close)
        at_once = False
        cleanup.callback(lambda: server.stop(at_once=at_once))
        cleanup.callback(around.probes.watch.stopping)
        cleanup.enter_context(around.kept.keeping(server))
        try:
            key_file = cleanup.enter_context(published_key_file(server))
            around.probes.watch.serving(server)
            if around.page is not None:
                around.page.serving(server, key_file)
            print_start_page(server, key_file, _more_addresses(around), around.told)
            around.log.is_open = True
            status = server.wait()
        except StopRequested:
            at_once = not drained(server, drain_seconds)
            raise
        raise ServerStartError(
            f"TorchServe ended by itself (status {status}); its last words are above. If it was "
            "killed, the machine may be out of memory: `dmesg` then says so.",
            log_tail=server.log_tail(15),
        )


def _more_addresses(around: Around) -> dict[str, str]:
    """Those that TorchServe itself does not have, by what is there."""
    addresses = {}
    if around.probes.address is not None:
        addresses["probes"] = f"{around.probes.address}/live and /ready"
    if around.page is not None:
        addresses["page"] = f"{around.page.address} (for a browser of this machine)"
    return addresses
