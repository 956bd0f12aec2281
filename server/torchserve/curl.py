"""The curl with which a server that was started here is asked, for a shell of this machine."""

from __future__ import annotations

from pathlib import Path

from d2serve.server.torchserve.clients import ReachableServer


def curl_start(server: ReachableServer, key_file: Path | None) -> str:
    """The command up to its file and address. The shell reads the token when it runs.

    Args:
        server: which runs.
        key_file: with its tokens; None where it asks for none.
    """
    curl, identity = "curl ", server.listening.identity
    if identity is not None:
        curl += f"--cacert {identity.certificate_file} "
    if key_file is not None:
        curl += (
            "-H \"Authorization: Bearer $(python3 -c 'import json; "
            f'print(json.load(open("{key_file}"))["inference"]["key"])\')" '
        )
    return curl


def address_for_clients(server: ReachableServer) -> str:
    """Where predictions are asked for, with a name that the certificate is for."""
    host, identity = server.listening.local_host, server.listening.identity
    if identity is None:
        return server.inference_address
    return f"https://{identity.name_for(host) or host}:{server.ports.inference}"
