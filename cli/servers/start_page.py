"""What ``d2serve serve`` says once its models can answer."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from d2serve.cli.servers.asking import ways_to_ask
from d2serve.server.torchserve.config.listening import EVERY_ADDRESS
from d2serve.server.torchserve.process import TorchServeProcess


def openness(server: TorchServeProcess) -> str | None:
    """What is open to others; None where nothing is."""
    where, ports = server.listening, server.ports
    if not where.is_open:
        return None
    reached = (
        "at every address of this machine, those of IPv6 too"
        if where.host == EVERY_ADDRESS
        else f"at {where.host}"
    )
    clear = (
        "in clear text, so whoever is on the way can read images and tokens. Encrypt them with "
        "--tls-cert and --tls-key, or let a proxy do it"
        if where.identity is None
        else f"encrypted, with a certificate for {', '.join(where.identity.names)} until "
        f"{where.identity.ends}"
    )
    asked = "No token is asked for" if where.without_tokens else "The inference token is asked for"
    return (
        f"others can ask for predictions {reached}, over HTTP (port {ports.inference}) and gRPC "
        f"(port {ports.grpc_inference}), {clear}. {asked}. Managing and "
        "metrics stay on this machine."
    )


def print_start_page(
    server: TorchServeProcess,
    key_file: Path | None,
    more_addresses: Mapping[str, str],
    console: Console,
) -> None:
    """Print what is served, at which addresses, and how it is asked.

    Args:
        server: which runs.
        key_file: with its tokens; None where it asks for none.
        more_addresses: beside TorchServe's own, by what is there.
        console: where it is printed.
    """
    versions: dict[str, list[str]] = {}
    for model in server.models:
        versions.setdefault(model.name, []).append(model.version)
    name = next(iter(versions))
    lines = [
        f"inference   {server.inference_address}",
        f"management  {server.management_address}",
        f"metrics     {server.metrics_address}",
        f"gRPC        {server.grpc_address}",
    ]
    lines += [f"{what:<12}{address}" for what, address in more_addresses.items()]
    if key_file is not None:
        renewed = f"renewed every {_in_words(server.renewal.age)}; a token copied from it ends then"
        lines.append(f"tokens      {key_file} ({renewed})")
    served = "; ".join(f"{each} {', '.join(numbers)}" for each, numbers in versions.items())
    console.print(f"[green]Serving[/] {escape(served)}", highlight=False, soft_wrap=True)
    for model_name, numbers in versions.items():
        if len(numbers) > 1:
            lines.append(f"{model_name}: {numbers[0]} answers where a request names no version")
    for line in lines:
        console.print(f"  {line}", highlight=False, markup=False, soft_wrap=True)
    opened = openness(server)
    if opened is not None:
        console.print(f"[yellow]Warning:[/] {opened}", highlight=False, soft_wrap=True)
    console.print("Ask it:", highlight=False)
    for command in ways_to_ask(server, name, key_file):
        console.print(f"  {command}", highlight=False, markup=False, soft_wrap=True)
    console.print("Stop it with Ctrl-C.", highlight=False)


def _in_words(time: timedelta) -> str:
    seconds = time.total_seconds()
    return f"{seconds:g} seconds" if seconds < 120 else f"{seconds / 60:g} minutes"
