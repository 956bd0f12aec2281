"""The five ports of a server, free ones or those of its configuration.

A port that is taken is named before Java starts: TorchServe's own message, a Java stack trace after
seconds, names neither the port's purpose nor what to do.
"""

from __future__ import annotations

import errno
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
    def from_settings(
        cls, settings: Mapping[str, str], *, has_host: bool = False, has_tls: bool = False
    ) -> Ports:
        """The ports a config.properties names, TorchServe's defaults for the others.

        What the file says of other machines and of encryption is refused where the server would
        not do it: somebody who wrote it expects it.

        Args:
            settings: of the file.
            has_host: whether the host for predictions is given beside the file.
            has_tls: whether a certificate is given beside the file.

        Raises:
            ServerStartError: an address is not this machine's, or a port is no number of one.
        """
        default = cls()
        for key, may_be_open in (
            ("grpc_inference_address", has_host),
            ("grpc_management_address", False),
        ):
            host = settings.get(key, LOOPBACK)
            if not may_be_open and not is_loopback(f"//{host}"):
                raise _address_error(key, host)
        if not has_tls and settings.get("enable_grpc_ssl", "").strip().lower() == "true":
            raise _address_error("enable_grpc_ssl", "true")
        return cls(
            inference=_port_of(settings, "inference_address", default.inference, has_host, has_tls),
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

    def require_free(self, host: str = LOOPBACK) -> None:
        """Raise ServerStartError naming every port that is taken.

        ``host`` is the address for predictions; the others are looked at on loopback.
        """
        hosts = {"inference": host, "grpc_inference": host}
        busy = [
            f"{port} ({purpose.replace('_', ' ').replace('grpc', 'gRPC')})"
            for purpose, port in asdict(self).items()
            if is_busy(port, hosts.get(purpose, LOOPBACK))
        ]
        if busy:
            raise ServerStartError(
                f"In use already: port {', '.join(busy)}. Is another TorchServe running? Stop it, "
                "or choose other ports (d2serve serve --inference-port … and its siblings)."
            )


def is_busy(port: int, host: str = LOOPBACK) -> bool:
    """Whether binding to the port on an address of this machine fails.

    Raises:
        ServerStartError: the address is not this machine's.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As Java does: otherwise a port in TIME_WAIT after a server's stop would count as busy.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno == errno.EADDRNOTAVAIL:
                raise ServerStartError(
                    f"The host {host} is no address of this machine. Expected one that it has "
                    "(`ip address` lists them), or 0.0.0.0 for every one."
                ) from error
            return True
    return False


def _port_of(
    settings: Mapping[str, str],
    key: str,
    default: int,
    may_be_open: bool = False,
    may_be_encrypted: bool = False,
) -> int:
    address = settings.get(key)
    if address is None:
        return default
    try:
        parts = urlsplit(address)
        port = parts.port
    except ValueError as error:
        raise _port_error(key, address, "http://127.0.0.1:8080") from error
    is_encrypted = parts.scheme == "https"
    if not (parts.scheme == "http" or (is_encrypted and may_be_encrypted)):
        raise _address_error(key, address)
    if not (may_be_open or is_loopback(address)):
        raise _address_error(key, address)
    return port or (443 if is_encrypted else 80)


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


def _address_error(key: str, value: str) -> ServerStartError:
    return ServerStartError(
        f"{key} is {value}, but this command serves this machine only, over plain http on "
        f"{LOOPBACK}. {_OPENED.get(key, _KEPT)} To serve as the file says, start TorchServe itself "
        "with it: `torchserve --start --ncs --ts-config FILE --model-store DIR --models "
        "NAME=FILE.mar`."
    )


_KEPT = "Management and metrics always stay there: reach them through ssh or a proxy of yours."
_OPENED = dict.fromkeys(
    ("inference_address", "grpc_inference_address", "enable_grpc_ssl"),
    "Say it on the command line instead: --host 0.0.0.0 lets others predict, and --tls-cert FILE "
    "--tls-key FILE encrypt it.",
)
