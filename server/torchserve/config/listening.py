"""Where a server listens, and whether what it says there is encrypted.

Predictions may be opened to others, over HTTP and gRPC. Managing models and the metrics stay on
this machine: whoever manages models runs code.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Union
from urllib.parse import urlsplit

from d2serve.client.connection.addresses import is_loopback
from d2serve.client.connection.settings import ConnectionSettings
from d2serve.client.errors import ServerStartError
from d2serve.server.torchserve.config.identity import ServerIdentity, read_identity
from d2serve.server.torchserve.config.ports import LOOPBACK, Ports

_File = Union[str, "os.PathLike[str]"]

EVERY_ADDRESS = "0.0.0.0"
_KEYSTORE = ("keystore", "keystore_pass", "keystore_type")


@dataclass(frozen=True)
class Listening:
    """Ports, the address of this machine for predictions, and the certificate, if there is one."""

    ports: Ports
    host: str = LOOPBACK
    identity: ServerIdentity | None = None
    without_tokens: bool = False
    """Whether nobody is asked for a token, since whoever can reach it was asked elsewhere."""

    @property
    def is_open(self) -> bool:
        """Whether other machines can reach it."""
        return not is_loopback(f"//{self.host}")

    @property
    def local_host(self) -> str:
        """Where this machine reaches the predictions."""
        return LOOPBACK if self.host == EVERY_ADDRESS else self.host

    @property
    def inference_address(self) -> str:
        scheme = "http" if self.identity is None else "https"
        return f"{scheme}://{self.local_host}:{self.ports.inference}"

    @property
    def grpc_address(self) -> str:
        address = f"{self.local_host}:{self.ports.grpc_inference}"
        return address if self.identity is None else f"https://{address}"

    def applied_to(self, settings: Mapping[str, str]) -> dict[str, str]:
        """The settings of a server that listens so.

        Raises:
            ServerStartError: others would reach it without a token.
        """
        if self.without_tokens:  # managing too would then ask nobody
            asked = {"disable_token_authorization": "true", "enable_model_api": "false"}
            settings = {**settings, **asked}
        elif self.is_open and settings.get("disable_token_authorization", "").lower() == "true":
            raise ServerStartError(
                f"Got the host {self.host} and disable_token_authorization=true: whoever reaches "
                "this machine could predict. Expected tokens, which are the default: take the "
                "line out of config.properties, or leave the host out. In a container that only "
                "a platform reaches, which checks who asks, say so: --without-tokens."
            )
        scheme = "http" if self.identity is None else "https"
        return {
            **{name: value for name, value in settings.items() if name not in _KEYSTORE},
            **self.ports.settings(),
            "inference_address": f"{scheme}://{self.host}:{self.ports.inference}",
            "grpc_inference_address": self.host,
            "enable_grpc_ssl": str(self.identity is not None).lower(),
        }

    def of_clients(self, key_file: Path | None) -> ConnectionSettings:
        """What a client on this machine needs beside the address of predictions."""
        # Also an address that others reach is this machine's own: no token leaves it.
        settings: ConnectionSettings = {"key_file": key_file, "allow_token_in_clear": True}
        if self.identity is not None:
            settings["ca_file"] = self.identity.certificate_file
            settings["server_name"] = self.identity.name_for(self.local_host)
        return settings

    def files(self, directory: Path) -> dict[str, str]:
        """Write what TorchServe needs beside its settings; returns the settings that name it."""
        return {} if self.identity is None else self.identity.write(directory)


def listening(
    ports: Ports,
    host: str | None = None,
    certificate: _File | None = None,
    key: _File | None = None,
    without_tokens: bool = False,
) -> Listening:
    """Where a server is to listen.

    Args:
        ports: of the server.
        host: IPv4 address of this machine for predictions; None is loopback.
        certificate, key: PEM files, both or neither.
        without_tokens: whether nobody is asked for a token.

    Raises:
        ServerStartError: the host is no such address, or certificate and key do not work.
    """
    if (certificate is None) != (key is None):
        raise ServerStartError(
            "Got one of certificate and key, expected both or neither (d2serve serve --tls-cert "
            "fullchain.pem --tls-key key.pem)."
        )
    try:
        host = LOOPBACK if host is None else str(ipaddress.IPv4Address(host))
    except ValueError:
        raise ServerStartError(
            f"Got the host {host!r}, expected an IPv4 address of this machine, or 0.0.0.0 for "
            "every one of them: TorchServe's HTTP takes no others. Names and IPv6 are for a proxy."
        ) from None
    if certificate is None or key is None:
        return Listening(ports, host, None, without_tokens)
    return Listening(ports, host, read_identity(Path(certificate), Path(key)), without_tokens)


def listening_by(settings: Mapping[str, str]) -> Listening:
    """Where a server of this machine listens that runs with these settings.

    Raises:
        ServerStartError: it is none that d2serve starts: it is managed from elsewhere, or its
            certificate cannot be read.
    """
    ports = Ports.from_settings(settings, has_host=True, has_tls=True)
    address = urlsplit(settings.get("inference_address", ports.address("inference")))
    if address.scheme != "https":
        return listening(ports, address.hostname)
    certificate, key = settings.get("certificate_file"), settings.get("private_key_file")
    return listening(ports, address.hostname, certificate, key)
