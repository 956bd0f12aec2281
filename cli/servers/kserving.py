"""``d2serve kserve``: archives on KServe's own Python server."""

from __future__ import annotations

from importlib import import_module
from typing import Annotated, Optional

import typer
from rich.markup import escape

from d2serve.cli.commands import is_ours, missing_package
from d2serve.cli.progress import console, error_console
from d2serve.client.errors import ClientError
from d2serve.server.kserve.serving import HELP, Settings, serve

_DEFAULT = Settings()


def kserve(
    models: Annotated[list[str], typer.Argument(help=HELP["models"], metavar="[NAME=]FILE.mar...")],
    name: Annotated[Optional[str], typer.Option(help=HELP["name"])] = None,
    host: Annotated[str, typer.Option(help=HELP["host"])] = _DEFAULT.host,
    http_port: Annotated[
        int, typer.Option(min=1, max=65535, help=HELP["http_port"])
    ] = _DEFAULT.http_port,
    grpc_port: Annotated[
        int, typer.Option(min=0, max=65535, help=HELP["grpc_port"])
    ] = _DEFAULT.grpc_port,
    workers: Annotated[int, typer.Option(min=1, help=HELP["workers"])] = _DEFAULT.workers,
    device: Annotated[str, typer.Option(help=HELP["device"])] = _DEFAULT.device,
    drain_seconds: Annotated[
        int, typer.Option(min=0, help=HELP["drain_seconds"])
    ] = _DEFAULT.drain_seconds,
) -> None:
    """Serve archives on KServe's own Python server, until Ctrl-C.

    It speaks the Open Inference Protocol over REST and gRPC, and KServe's first protocol. Only this
    machine can reach it unless a host is given.
    """
    settings = Settings(host, http_port, grpc_port, workers, device, drain_seconds)
    try:
        import_module("d2serve.server.kserve.library")
        serve(models, name, settings, lambda told: console.print(escape(told), soft_wrap=True))
    except ImportError as error:
        if is_ours(error):
            raise
        told = missing_package("kserve", error)
    except ClientError as error:
        told = str(error)
    else:
        return
    error_console.print(f"[red]Not served.[/] {escape(told)}", soft_wrap=True)
    raise typer.Exit(1)
