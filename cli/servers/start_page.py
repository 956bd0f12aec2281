"""What ``d2serve serve`` says once its models can answer."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from d2serve.server.torchserve.process import TorchServeProcess


def print_start_page(
    server: TorchServeProcess, key_file: Path | None, probes: str | None, console: Console
) -> None:
    """Print what is served, at which addresses, and how it is asked."""
    versions: dict[str, list[str]] = {}
    for model in server.models:
        versions.setdefault(model.name, []).append(model.version)
    name = next(iter(versions))
    token, option = "", ""
    lines = [
        f"inference   {server.inference_address}",
        f"management  {server.management_address}",
        f"metrics     {server.metrics_address}",
        f"gRPC        {server.grpc_address}",
    ]
    if probes is not None:
        lines.append(f"probes      {probes}/live and /ready")
    if key_file is not None:
        renewed = f"renewed every {_in_words(server.renewal.age)}; a token copied from it ends then"
        lines.append(f"tokens      {key_file} ({renewed})")
        token = (
            "-H \"Authorization: Bearer $(python3 -c 'import json; "
            f'print(json.load(open("{key_file}"))["inference"]["key"])\')" '
        )
        if key_file.parent != Path.cwd():
            option = f" --key-file {key_file}"
    address = f" --address {server.inference_address}" if server.ports.inference != 8080 else ""
    served = "; ".join(f"{each} {', '.join(numbers)}" for each, numbers in versions.items())
    console.print(f"[green]Serving[/] {escape(served)}", highlight=False, soft_wrap=True)
    for model_name, numbers in versions.items():
        if len(numbers) > 1:
            lines.append(f"{model_name}: {numbers[0]} answers where a request names no version")
    for line in lines:
        console.print(f"  {line}", highlight=False, markup=False, soft_wrap=True)
    console.print("Ask it:", highlight=False)
    for command in (
        f"curl {token}-T image.jpg {server.inference_address}/predictions/{name}",
        f"d2serve predict {name} image.jpg{address}{option}",
    ):
        console.print(f"  {command}", highlight=False, markup=False, soft_wrap=True)
    console.print("Stop it with Ctrl-C.", highlight=False)


def _in_words(time: timedelta) -> str:
    seconds = time.total_seconds()
    return f"{seconds:g} seconds" if seconds < 120 else f"{seconds / 60:g} minutes"
