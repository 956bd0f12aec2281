"""``d2serve ray-serve``: archives on Ray Serve, on this machine or on a cluster."""

from __future__ import annotations

import time
from typing import Annotated, Optional

import typer
from rich.markup import escape

from d2serve.cli.commands import is_ours, missing_package
from d2serve.cli.progress import console, error_console, shown_progress
from d2serve.cli.running import fail
from d2serve.cli.servers.stopping import StopRequested, stopped_by_signals
from d2serve.client.errors import ArchiveRefused
from d2serve.handlers.errors import LoadError
from d2serve.server.ray_serve.running import NotServed, RayServing
from d2serve.server.ray_serve.settings import (
    Replicas,
    ServedModel,
    Settings,
    WrongSettings,
    read_models,
)

_DEFAULT = Settings()
_SECONDS_BETWEEN_LOOKS = 5.0


def ray_serve(
    models: Annotated[
        list[str],
        typer.Argument(
            help="Archives. Of two versions of a model, the first answers where a request names "
            "none.",
            metavar="[NAME=]FILE.mar...",
        ),
    ],
    replicas: Annotated[
        str,
        typer.Option(
            help="Processes that answer for each model: a number, or MIN:MAX to follow the load."
        ),
    ] = "1",
    cpus_per_replica: Annotated[
        float, typer.Option(help="CPUs of a replica, which are also its threads.")
    ] = _DEFAULT.cpus_per_replica,
    gpus_per_replica: Annotated[
        float,
        typer.Option(help="GPUs of a replica: 1, a part of one, or 0 to run on CPUs."),
    ] = _DEFAULT.gpus_per_replica,
    batching: Annotated[
        Optional[str],
        typer.Option(
            help="When images that wait together go through the program together, where it takes "
            "several: auto (on a GPU), always or never. Default: as the archive says, else auto.",
        ),
    ] = _DEFAULT.batching,
    batch_size: Annotated[
        int, typer.Option(help="Images that go through the program together, at most.")
    ] = _DEFAULT.batch_size,
    host: Annotated[
        str,
        typer.Option(
            help="Address of this machine at which others may predict; 0.0.0.0 is every one. "
            "Nobody is asked for a token."
        ),
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port for predictions over HTTP.")] = 8080,
    ray_address: Annotated[
        Optional[str],
        typer.Option(
            help="A Ray cluster: auto on a machine of it, ADDRESS:6379 or ray://ADDRESS:10001. "
            "Default: a Ray of its own, on this machine.",
            metavar="ADDRESS",
        ),
    ] = None,
    drain_seconds: Annotated[
        float,
        typer.Option(
            min=0,
            help="Seconds for which Ctrl-C and SIGTERM wait until all that was asked is answered.",
        ),
    ] = _DEFAULT.drain_seconds,
) -> None:
    """Serve archives with Ray Serve, on this machine or on a cluster, until Ctrl-C.

    Paths are those of TorchServe. Nobody is asked for a token.
    """
    try:
        settings = Settings(
            replicas=Replicas.parse(replicas),
            cpus_per_replica=cpus_per_replica,
            gpus_per_replica=gpus_per_replica,
            batching=batching,
            batch_size=batch_size,
            drain_seconds=drain_seconds,
        )
        served = read_models(models, settings)
        serving = RayServing(served, settings, host, port, ray_address)
        shown = "127.0.0.1" if host == "0.0.0.0" else host
        _serve_until_stopped(serving, served, f"http://{shown}:{port}")
    except (ArchiveRefused, NotServed, WrongSettings, LoadError) as error:
        error_console.print(f"[red]Not served.[/] {escape(str(error))}", soft_wrap=True)
        raise typer.Exit(1) from None
    except ImportError as error:
        if is_ours(error):
            raise
        fail(missing_package("ray-serve", error))


def _serve_until_stopped(serving: RayServing, served: list[ServedModel], address: str) -> None:
    """
    Raises:
        NotServed: it did not start, or ended by itself.
    """
    try:
        with stopped_by_signals():
            with shown_progress() as (begin, _):
                serving.start(lambda step: begin(step, 0))
            _print_page(served, address)
            while serving.is_alive():
                time.sleep(_SECONDS_BETWEEN_LOOKS)
    except StopRequested:
        error_console.print("Stopping: what was asked is answered first.")
        serving.stop()
        error_console.print("Stopped.")
        return
    serving.stop()
    raise NotServed(
        "Ray Serve has not got the models any more: somebody ended it, or the cluster is gone."
    )


def _print_page(served: list[ServedModel], address: str) -> None:
    for model in served:
        console.print(
            f"[green]Serving[/] {escape(f'{model.name} {model.version}')} at "
            f"{escape(f'{address}/predictions/{model.name}')}",
            soft_wrap=True,
            highlight=False,
        )
    name = served[0].name
    console.print(
        f"Ask it: curl {address}/predictions/{name} -H 'Content-Type: image/jpeg' "
        f"--data-binary @photo.jpg\n"
        f"or: d2serve predict {name} photo.jpg --address {address}",
        soft_wrap=True,
        highlight=False,
        markup=False,
    )
