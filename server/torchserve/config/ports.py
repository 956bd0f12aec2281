"""The five ports of a server, free ones or those of its configuration.

A port that is taken is named before Java starts: TorchServe's own message, a Java stack trace after
seconds, names neither the port's purpose nor what to do.
"""

from __future__ import annotations

import random
import socket
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from urllib.parse import urlsplit

from d2serve.client.connection.addresses import is_loopback
from d2serve.client.errors import ServerStartError

LOOPBACK = "127.0.0.1"
# Below the range from which Linux and macOS take ports for outgoing connections: a port from
# inside that range could be taken by any connection between the choice and TorchServe's bind.
_FREE_PORT_RANGE = range(10_240, 32_768)
_ATTEMPTS = 1_000


@dataclass(frozen=True)
class Ports:
    """The five ports of a TorchServe; the defaults are TorchServe's own."""

    inference: int = 8080
    management: int = 8081
    metrics: int = 8082
    grpc_inference: int = 7070
    grpc_management: int = 7071

    @classmethod
    def free(cls) -> Ports:
        """Five ports on which nothing listens now."""
        found: list[int] = []
        for _ in range(_ATTEMPTS):
            port = random.choice(_FREE_PORT_RANGE)
            if port not in found and not is_busy(port):
                found.append(port)
            if len(found) == 5:
                return cls(*found)
        raise ServerStartError(f"No five free ports between 10240 and 32767 on {LOOPBACK}.")

    @classmethod
    def from_settings(cls, settings: Mapping[str, str]) -> Ports:
        """The ports a config.properties names, TorchServe's defaults for the others.

        A server that is to be reached from elsewhere is refused: it would listen on this machine
        only, which somebody who wrote another address does not expect.

        Raises:
            ServerStartError: an address is not this machine's, or a port is no number of one.
        """
        default = cls()
        for key in ("grpc_inference_address", "grpc_management_address"):
            host = settings.get(key, LOOPBACK)
            if not is_loopback(f"//{host}"):
                raise _address_error(key, host)
        return cls(
            inference=_port_of(settings, "inference_address", default.inference),
            management=_port_of(settings, "management_address", default.management),
            metrics=_port_of(settings, "metrics_address", default.metrics),
            grpc_inference=_number(settings, "grpc_inference_port", default.grpc_inference),
            grpc_management=_number(settings, "grpc_management_port", default.grpc_management),
        )

    def address(self, purpose: str) -> str:
        """The URL of ``"inference"``, ``"management"`` or ``"metrics"``."""
        return f"http://{LOOPBACK}:{getattr(self, purpose)}"

    def settings(self) -> dict[str, str]:
        """These ports as settings of a config.properties, on the loopback address only."""
        return {
            "inference_address": self.address("inference"),
            "management_address": self.address("management"),
            "metrics_address": self.address("metrics"),
            "grpc_inference_address": LOOPBACK,
            "grpc_management_address": LOOPBACK,
            "grpc_inference_port": str(self.grpc_inference),
            "grpc_management_port": str(self.grpc_management),
        }

    def require_free(self) -> None:
        """Raise ServerStartError naming every port that is taken."""
        busy = [
            f"{port} ({purpose.replace('_', ' ').replace('grpc', 'gRPC')})"
            for purpose, port in asdict(self).items()
            if is_busy(port)
        ]
        if busy:
            raise ServerStartError(
                f"In use already: port {', '.join(busy)}. Is another TorchServe running? Stop it, "
                "or choose other ports (d2serve serve --inference-port … and its siblings)."
            )


def is_busy(port: int) -> bool:
    """Whether binding to the port on the loopback address fails."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As Java does: otherwise a port in TIME_WAIT after a server's stop would count as busy.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return True
    return False


def _port_of(settings: Mapping[str, str], key: str, default: int) -> int:
    address = settings.get(key)
    if address is None:
        return default
    try:
        parts = urlsplit(address)
        port = parts.port
    except ValueError as error:
        raise _port_error(key, address, "http://127.0.0.1:8080") from error
    if parts.scheme != "http" or not is_loopback(address):
        raise _address_error(key, address)
    return port or 80


def _number(settings: Mapping[str, str], key: str, default: int) -> int:
    given = settings.get(key, str(default)).strip()
    if not (given.isascii() and given.isdecimal() and 0 < int(given) < 65_536):
        raise _port_error(key, given, str(default))
    return int(given)


def _port_error(key: str, given: str, example: str) -> ServerStartError:
    return ServerStartError(
        f"{key} is {given!r} in the configuration, expected a port between 1 and 65535, as in "
        f"{key}={example}."
    )


def _address_error(key: str, address: str) -> ServerStartError:
    return ServerStartError(
        f"{key} is {address}, but this command serves this machine only, over plain http on "
        f"{LOOPBACK}. To serve others, start TorchServe itself with that file: "
        "`torchserve --start --ncs --ts-config FILE --model-store DIR --models NAME=FILE.mar`."
    )
