"""The commands that a starting server prints, with which it can be asked."""

from __future__ import annotations

from pathlib import Path

from d2serve.client.connection.addresses import is_loopback
from d2serve.server.torchserve.process import TorchServeProcess

_DEFAULT_ADDRESS = "http://127.0.0.1:8080"


def ways_to_ask(server: TorchServeProcess, model: str, key_file: Path | None) -> list[str]:
    """Commands for the current directory of this machine.

    Args:
        server: which runs.
        model: its name.
        key_file: with its tokens; None where it asks for none.
    """
    address, identity = server.inference_address, server.listening.identity
    curl, predict = "", ""
    if identity is not None:
        address = f"https://{_named(server)}:{server.ports.inference}"
        curl += f"--cacert {identity.certificate_file} "
        predict += f" --ca-file {identity.certificate_file}"
    if key_file is not None:
        curl += (
            "-H \"Authorization: Bearer $(python3 -c 'import json; "
            f'print(json.load(open("{key_file}"))["inference"]["key"])\')" '
        )
        if key_file.parent != Path.cwd():
            predict += f" --key-file {key_file}"
        if identity is None and not is_loopback(address):
            predict += " --allow-token-in-clear"
    if address != _DEFAULT_ADDRESS:
        predict = f" --address {address}{predict}"
    return [
        f"curl {curl}-T image.jpg {address}/predictions/{model}",
        f"d2serve predict {model} image.jpg{predict}",
    ]


def _named(server: TorchServeProcess) -> str:
    """This server by a name that its certificate is for."""
    host, identity = server.listening.local_host, server.listening.identity
    return host if identity is None else identity.name_for(host) or host
