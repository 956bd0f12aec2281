"""``d2serve serve``: a real TorchServe with safe settings, for people in a hurry.

It does what `torchserve --start` does with the repository's config.properties, and what one has to
know besides: finds Java, waits until the model can answer, says how to ask it, and leaves nothing
behind. The server is for this machine only; to serve others, use `torchserve` itself.
"""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import Annotated, Optional

import typer
from rich.markup import escape

from d2serve.cli.options import DEFAULT_STORE
from d2serve.cli.progress import error_console, shown_progress
from d2serve.cli.servers.draining import drained
from d2serve.cli.servers.key_file import published_key_file
from d2serve.cli.servers.start_page import print_start_page
from d2serve.cli.servers.stopping import StopRequested, stopped_by_signals
from d2serve.client.errors import ServerStartError
from d2serve.server.archives.model_archives import archives_of
from d2serve.server.torchserve.config.ports import Ports
from d2serve.server.torchserve.config.properties import read_properties, safe_defaults
from d2serve.server.torchserve.process import TorchServeProcess

DEFAULT_CONFIG = Path("config.properties")
Port = Optional[int]


def serve(
    models: Annotated[
        Optional[list[str]],
        typer.Argument(
            help="Archives, each a path or a file of the model store. Of two versions of a model, "
            "the first answers where a request names none. Default: all of the model store.",
            metavar="[NAME=]FILE.mar",
        ),
    ] = None,
    model_store: Annotated[
        Optional[Path],
        typer.Option(help=f"Folder of .mar files. Default: ./{DEFAULT_STORE} if there is one."),
    ] = None,
    config: Annotated[
        Optional[Path],
        typer.Option(
            help=f"TorchServe's settings. Default: ./{DEFAULT_CONFIG} if there is one, otherwise "
            "d2serve's own, which are safe."
        ),
    ] = None,
    inference_port: Annotated[
        Port, typer.Option(help="Port for predictions over HTTP. Default: 8080.")
    ] = None,
    management_port: Annotated[
        Port, typer.Option(help="Port to manage models over HTTP. Default: 8081.")
    ] = None,
    metrics_port: Annotated[
        Port, typer.Option(help="Port of the metrics for Prometheus. Default: 8082.")
    ] = None,
    grpc_port: Annotated[
        Port, typer.Option(help="Port for predictions over gRPC. Default: 7070.")
    ] = None,
    grpc_management_port: Annotated[
        Port, typer.Option(help="Port to manage models over gRPC. Default: 7071.")
    ] = None,
    require_digest: Annotated[
        Optional[Path],
        typer.Option(
            help="Serve only archives whose SHA-256 this file lists, as `sha256sum *.mar` prints "
            "it. No archive can then be registered while the server runs.",
            metavar="FILE",
        ),
    ] = None,
    timeout: Annotated[
        float, typer.Option(help="Seconds within which every worker must be ready.")
    ] = 300.0,
    drain_seconds: Annotated[
        float,
        typer.Option(
            min=0,
            help="Seconds for which Ctrl-C and SIGTERM wait until all that was asked is answered. "
            "A second one stops at once.",
        ),
    ] = 30.0,
) -> None:
    """Serve archives with TorchServe on this machine, until Ctrl-C.

    It runs on Linux and macOS, and only this machine can reach it.
    """
    given = {
        "inference": inference_port,
        "management": management_port,
        "metrics": metrics_port,
        "grpc_inference": grpc_port,
        "grpc_management": grpc_management_port,
    }
    try:
        with stopped_by_signals():
            config = config or (DEFAULT_CONFIG if DEFAULT_CONFIG.is_file() else None)
            store = _store(models, model_store)
            log = _LogStream()
            with shown_progress() as (begin, _):
                begin("looking for Java and TorchServe", 0)
                server = TorchServeProcess(
                    models or _all_archives(store),
                    model_store=store,
                    config=config,
                    ports=_ports(config, given),
                    require_digest=require_digest,
                    timeout=timeout,
                    on_progress=lambda stage: begin(stage, 0),
                    on_log=log,
                ).start()
            _run(server, log, drain_seconds)
    except ServerStartError as error:
        if error.log_tail:
            error_console.print(
                escape(error.log_tail), style="dim", highlight=False, soft_wrap=True
            )
        error_console.print(f"[red]Not served.[/] {escape(str(error))}", soft_wrap=True)
        raise typer.Exit(1) from None
    except StopRequested:
        error_console.print("Stopped.")


def _run(server: TorchServeProcess, log: _LogStream, drain_seconds: float) -> None:
    with contextlib.ExitStack() as cleanup:
        at_once = False
        cleanup.callback(lambda: server.stop(at_once=at_once))
        try:
            key_file = cleanup.enter_context(published_key_file(server))
            print_start_page(server, key_file)
            log.is_open = True
            status = server.wait()
        except StopRequested:
            at_once = not drained(server, drain_seconds)
            raise
        raise ServerStartError(
            f"TorchServe ended by itself (status {status}); its last words are above. If it was "
            "killed, the machine may be out of memory: `dmesg` then says so.",
            log_tail=server.log_tail(15),
        )


def _store(models: list[str] | None, given: Path | None) -> Path | None:
    """The model store; None makes a private one, for archives that lie elsewhere."""
    if given is not None:
        if not given.is_dir():
            raise ServerStartError(f"There is no model store {given}: expected a folder of .mar.")
        if not os.access(given, os.R_OK | os.X_OK):
            raise ServerStartError(f"{given} may not be read by you: its owner has to allow it.")
        return given
    if not DEFAULT_STORE.is_dir():
        return None
    files = [Path(model.split("=", 1)[-1]) for model in models or []]
    inside = (
        (not file.is_absolute() and (DEFAULT_STORE / file).is_file())
        or file.parent.resolve() == DEFAULT_STORE.resolve()
        for file in files
    )
    return DEFAULT_STORE if all(inside) else None


def _all_archives(store: Path | None) -> list[str]:
    archives = [] if store is None else archives_of(store)
    if not archives:
        raise ServerStartError(
            f"Nothing to serve: no .mar in {store or DEFAULT_STORE}. Make one with "
            "`d2serve export`, or give one: `d2serve serve FILE.mar`."
        )
    return archives


def _ports(config: Path | None, given: dict[str, int | None]) -> Ports:
    settings = safe_defaults() if config is None else read_properties(config)
    configured = Ports.from_settings(settings)
    return Ports(**{name: port or getattr(configured, name) for name, port in given.items()})


class _LogStream:
    """Passes TorchServe's lines on once it is ready; before, they would bury what matters."""

    def __init__(self) -> None:
        self.is_open = False

    def __call__(self, line: str) -> None:
        if self.is_open:
            sys.stdout.write(line + "\n")
            sys.stdout.flush()
