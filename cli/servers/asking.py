"""The commands that a starting server prints, with which it can be asked."""

from __future__ import annotations

from pathlib import Path

from d2serve.client.connection.addresses import is_loopback
from d2serve.server.torchserve.curl import address_for_clients, curl_start
from d2serve.server.torchserve.process import TorchServeProcess

_DEFAULT_ADDRESS = "http://127.0.0.1:8080"


def ways_to_ask(server: TorchServeProcess, model: str, key_file: Path | None) -> list[str]:
    """Commands for the current directory of this machine.

    Args:
        server: which runs.
        model: its name.
        key_file: with its tokens; None where it asks for none.
    """
    address, identity = address_for_clients(server), server.listening.identity
    predict = ""
    if identity is not None:
        predict += f" --ca-file {identity.certificate_file}"
    if key_file is not None:
        if key_file.parent != Path.cwd():
            predict += f" --key-file {key_file}"
        if identity is None and not is_loopback(address):
            predict += " --allow-token-in-clear"
    if address != _DEFAULT_ADDRESS:
        predict = f" --address {address}{predict}"
    return [
        f"{curl_start(server, key_file)}-T image.jpg {address}/predictions/{model}",
        f"d2serve predict {model} image.jpg{predict}",
    ]
