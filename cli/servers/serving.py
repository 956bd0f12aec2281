"""``d2serve serve``: a real TorchServe with safe settings, for people in a hurry.

It does what `torchserve --start` does with the repository's config.properties, and what one has to
know besides: finds Java, waits until the model can answer, says how to ask it, and leaves nothing
behind. The server is for this machine only, unless it is told otherwise.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Annotated, Optional

import typer
from rich.markup import escape

from d2serve.cli.options import DEFAULT_STORE
from d2serve.cli.progress import console, error_console, shown_progress
from d2serve.cli.servers.kept_state import KeptState
from d2serve.cli.servers.log_stream import LogFormat, LogStream
from d2serve.cli.servers.model_store import all_archives, store_of
from d2serve.cli.servers.stopping import StopRequested, stopped_by_signals
from d2serve.cli.servers.while_running import Around, run_until_stopped
from d2serve.client.errors import ServerStartError
from d2serve.handlers.torchserve.request_line import LOG_FORMAT
from d2serve.server.page.server import DEFAULT_PORT as PAGE_PORT
from d2serve.server.page.server import PageServer
from d2serve.server.probes.server import DEFAULT_PORT as PROBE_PORT
from d2serve.server.probes.server import ProbeServer
from d2serve.server.torchserve.config.ports import LOOPBACK, Ports
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
    host: Annotated[
        Optional[str],
        typer.Option(
            help="Address of this machine at which others may predict, over HTTP and gRPC; "
            "0.0.0.0 is every one. Managing and metrics stay on this machine. Default: 127.0.0.1, "
            "for this machine only."
        ),
    ] = None,
    tls_cert: Annotated[
        Optional[Path],
        typer.Option(
            help="Encrypt predictions: the server's certificate with its chain, PEM.",
            metavar="FILE",
        ),
    ] = None,
    tls_key: Annotated[
        Optional[Path], typer.Option(help="The RSA key of that certificate, PEM.", metavar="FILE")
    ] = None,
    state: Annotated[
        Optional[Path],
        typer.Option(
            help="Keep what is registered in this file: models, versions, the default one, workers "
            "and batches. The next start with it serves that again, and adds archives that its "
            "command names anew.",
            metavar="FILE",
        ),
    ] = None,
    without_tokens: Annotated[
        bool,
        typer.Option(
            "--without-tokens",
            help="Ask nobody for a token: in a container that only a platform reaches, which "
            "checks who asks. Models cannot be registered then.",
        ),
    ] = False,
    probe_port: Annotated[
        int,
        typer.Option(
            help="Port that says without a token whether the server lives and is ready: GET /live "
            "and /ready. 0 is none."
        ),
    ] = PROBE_PORT,
    probe_host: Annotated[
        str,
        typer.Option(help="Address of this machine for that port; 0.0.0.0 is every one."),
    ] = LOOPBACK,
    page: Annotated[
        bool,
        typer.Option(
            "--page",
            help="Show a page on which to try the models in a browser of this machine, at "
            f"{LOOPBACK}:{PAGE_PORT} whatever the host is.",
        ),
    ] = False,
    page_port: Annotated[
        Port, typer.Option(min=1, max=65_535, help="Show that page at this port.")
    ] = None,
    timeout: Annotated[
        float, typer.Option(help="Seconds within which every worker must be ready.")
    ] = 300.0,
    log_format: Annotated[
        LogFormat,
        typer.Option(
            envvar=LOG_FORMAT,
            help="How the log is written to standard output once the server is ready. json: each "
            "event is a JSON object on a line of its own, and what is for people goes to "
            "standard error.",
        ),
    ] = LogFormat.text,
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

    It runs on Linux and macOS. Only this machine can reach it unless a host is given.
    """
    given = {
        "inference": inference_port,
        "management": management_port,
        "metrics": metrics_port,
        "grpc_inference": grpc_port,
        "grpc_management": grpc_management_port,
    }
    try:
        with stopped_by_signals(), contextlib.ExitStack() as cleanup:
            config = config or (DEFAULT_CONFIG if DEFAULT_CONFIG.is_file() else None)
            ports = _ports(config, given, has_host=host is not None, has_tls=tls_cert is not None)
            kept = KeptState(state)
            store = store_of([*(models or []), *kept.models], model_store)
            start = kept.start(models or all_archives(store, kept.models), store, config)
            log = LogStream(log_format, kept.saw)
            probes = cleanup.enter_context(ProbeServer(probe_host, probe_port, ports))
            tried = _page(page, page_port, ports)
            if tried is not None:
                cleanup.enter_context(tried)
            with shown_progress() as (begin, _):

                def report(stage: str) -> None:
                    begin(stage, 0)
                    probes.watch.starting(stage)

                begin("looking for Java and TorchServe", 0)
                server = TorchServeProcess(
                    start.models,
                    model_store=store,
                    config=config,
                    overrides=start.overrides,
                    ports=ports,
                    host=host,
                    tls_cert=tls_cert,
                    tls_key=tls_key,
                    without_tokens=without_tokens,
                    require_digest=require_digest,
                    environment=log_format.environment,
                    timeout=timeout,
                    on_progress=report,
                    on_log=log,
                ).start()
            told = console if log_format is LogFormat.text else error_console
            run_until_stopped(server, Around(log, told, kept, probes, tried), drain_seconds)
    except ServerStartError as error:
        if error.log_tail:
            error_console.print(
                escape(error.log_tail), style="dim", highlight=False, soft_wrap=True
            )
        error_console.print(f"[red]Not served.[/] {escape(str(error))}", soft_wrap=True)
        raise typer.Exit(1) from None
    except StopRequested:
        error_console.print("Stopped.")


def _ports(
    config: Path | None, given: dict[str, int | None], *, has_host: bool, has_tls: bool
) -> Ports:
    settings = safe_defaults() if config is None else read_properties(config)
    configured = Ports.from_settings(settings, has_host=has_host, has_tls=has_tls)
    return Ports(**{name: port or getattr(configured, name) for name, port in given.items()})


def _page(wanted: bool, port: int | None, ports: Ports) -> PageServer | None:
    """The page, where its port or the page itself is asked for."""
    return PageServer(port or PAGE_PORT, ports) if wanted or port else None
