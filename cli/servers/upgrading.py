"""``d2serve upgrade``: a new version in the place of the one that answers, without losing a
request, and back again if it fails."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Optional

import typer
from rich.markup import escape

from d2serve.cli.options import CaFilePath, KeyFilePath, key_file_or_here
from d2serve.cli.progress import console, error_console, shown_progress
from d2serve.cli.servers.stopping import StopRequested, stopped_by_signals
from d2serve.client.connection.addresses import ENCRYPTED
from d2serve.client.connection.management_address import DEFAULT_MANAGEMENT_ADDRESS
from d2serve.client.errors import ClientError, ServerStartError, WorkersNotReady
from d2serve.client.management import ManagementClient
from d2serve.client.model_descriptions import ModelDescription
from d2serve.client.predict.http_client import DEFAULT_INFERENCE_ADDRESS, D2ServeClient
from d2serve.server.torchserve.config.listening import Listening, listening_by
from d2serve.server.torchserve.config.properties import read_properties
from d2serve.server.torchserve.config.settings import CONFIG_FILE
from d2serve.server.torchserve.logs.log_diagnosis import ServerLog
from d2serve.server.upgrading.checking import sample
from d2serve.server.upgrading.newcomer import (
    brought,
    find_archive,
    read_newcomer,
    store_beside,
)
from d2serve.server.upgrading.steps import OldStays, Upgrade, UpgradeFailed, Wishes


def upgrade(
    name: Annotated[str, typer.Argument(help="Name of the served model.", metavar="NAME")],
    archive: Annotated[
        Path,
        typer.Argument(
            help="The new version: a path, or a file of the server's model store.",
            metavar="NEW.mar",
        ),
    ],
    image: Annotated[
        Optional[Path],
        typer.Option(help="An image that the new version has to answer. Default: a made-up one."),
    ] = None,
    timeout: Annotated[
        float, typer.Option(help="Seconds within which each worker must be ready.")
    ] = 300.0,
    drain_seconds: Annotated[
        float,
        typer.Option(help="Seconds within which the old version must be idle to be retired."),
    ] = 30.0,
    keep_old: Annotated[
        bool,
        typer.Option(
            "--keep-old", help="Leave the old version registered, for who asks for it by number."
        ),
    ] = False,
    model_store: Annotated[
        Optional[Path],
        typer.Option(
            help="The server's model store, into which the archive is copied. Default: that of a "
            "server that `d2serve serve` started here; of another one, the archive is in it."
        ),
    ] = None,
    address: Annotated[
        Optional[str],
        typer.Option(
            help="For predictions. Default: what config.properties beside the key file says, "
            f"otherwise {DEFAULT_INFERENCE_ADDRESS}."
        ),
    ] = None,
    management_address: Annotated[
        Optional[str],
        typer.Option(help=f"Default: likewise, otherwise {DEFAULT_MANAGEMENT_ADDRESS}."),
    ] = None,
    key_file: KeyFilePath = None,
    ca_file: CaFilePath = None,
) -> None:
    """Put a new version of a served model in the place of the old one, while requests come.

    The new version is registered beside the old one, checked with an image and made the default;
    the old one is retired when it has answered what it was asked. Whatever fails before that is
    undone, and the exit status is 1.
    """
    key_file = key_file_or_here(key_file)
    running = _running_with(key_file)
    store = store_beside(key_file) if model_store is None else model_store
    switched = _Switched()
    try:
        if store is not None and not store.is_dir():
            raise UpgradeFailed(f"There is no model store {store}: expected a folder of .mar.")
        with (
            stopped_by_signals(),
            _manager(running, management_address, key_file, ca_file) as management,
            _client(running, address, key_file, ca_file) as client,
            shown_progress() as (begin, _),
        ):
            begin("checking the archive", 0)
            newcomer = read_newcomer(find_archive(archive, store))
            wishes = Wishes(sample(image, newcomer.spec), timeout, drain_seconds, keep_old)
            work = Upgrade(management, client, name, newcomer, wishes, lambda step: begin(step, 0))
            old = work.old()
            with brought(newcomer, name, store) as url:
                found = work.switch(url, old, _archive_of(old, store))
                switched.says = f"{name}: {newcomer.version} answers"
            if not keep_old:
                work.retire(old.version)
    except OldStays as error:
        error_console.print(f"[yellow]Upgraded, but:[/] {escape(str(error))}", soft_wrap=True)
        raise typer.Exit(1) from None
    except WorkersNotReady as error:
        cause = _cause(key_file, f"{name}_{newcomer.version}")
        error_console.print(f"[red]Not upgraded.[/] {escape(f'{error}{cause}')}", soft_wrap=True)
        raise typer.Exit(1) from None
    except ClientError as error:
        error_console.print(f"[red]Not upgraded.[/] {escape(str(error))}", soft_wrap=True)
        raise typer.Exit(1) from None
    except StopRequested:
        error_console.print(escape(switched.when_stopped()), soft_wrap=True)
        raise typer.Exit(1) from None
    fate = "stays registered" if keep_old else "is retired"
    seen = "" if found is None else f" It found {found} in the image."
    console.print(
        f"[green]Upgraded[/] {escape(f'{switched.says}, {old.version} {fate}.{seen}')}",
        soft_wrap=True,
        highlight=False,
    )


@dataclass
class _Switched:
    """How far it went, for who stops it."""

    says: str = ""
    """Which version answers, once the new one does for good."""

    def when_stopped(self) -> str:
        if self.says:
            return f"Stopped. {self.says}; the old version may still be registered."
        return "Not upgraded: stopped, and what was done was undone."


def _running_with(key_file: Path | None) -> Listening | None:
    """Where a server of this machine listens, by the config.properties that it runs with."""
    config = None if key_file is None else key_file.resolve().with_name(CONFIG_FILE)
    if config is None or not config.is_file():
        return None
    try:
        return listening_by(read_properties(config))
    except ServerStartError:
        return None


def _manager(
    running: Listening | None, address: str | None, key_file: Path | None, ca_file: Path | None
) -> ManagementClient:
    if address is None and running is not None:
        address = running.ports.address("management")
    return ManagementClient(address, key_file=key_file, ca_file=_if_encrypted(ca_file, address))


def _client(
    running: Listening | None, address: str | None, key_file: Path | None, ca_file: Path | None
) -> D2ServeClient:
    if address is None and running is not None:
        return D2ServeClient(running.inference_address, **running.of_clients(key_file))
    return D2ServeClient(address, key_file=key_file, ca_file=_if_encrypted(ca_file, address))


def _if_encrypted(ca_file: Path | None, address: str | None) -> Path | None:
    """The authorities to trust, where there is a certificate to look at: `d2serve serve` encrypts
    predictions and not managing, and one option stands for both."""
    return ca_file if address is not None and address.startswith(f"{ENCRYPTED}:") else None


def _archive_of(old: ModelDescription, store: Path | None) -> Path | None:
    """The archive of the old version, where it can be read here."""
    archive = None if store is None else store / old.url
    return archive if archive is not None and archive.is_file() else None


def _cause(key_file: Path | None, model: str) -> str:
    """What the workers of a version wrote last, where the server's logs lie beside its key file."""
    log = None if key_file is None else key_file.resolve().parent / "logs" / "model_log.log"
    if log is None or not log.is_file():
        return ""
    written = ServerLog()
    workers: set[str] = set()
    with log.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            found = re.search(rf"W-\d+-{re.escape(model)}\b", line)
            if found:
                workers.add(found.group())
                written.feed(line.rstrip("\n"))
    outputs = (written.worker_failure(worker) for worker in sorted(workers))
    last = next((output[-1] for output in outputs if output), "")
    return f" It wrote: {last}" if last else ""
