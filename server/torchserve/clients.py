"""How a server that was started here is reached: its addresses, its tokens and clients of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path

from d2serve.client.connection.credentials import KEY_FILE_NAME, KeyFile
from d2serve.client.management import ManagementClient
from d2serve.client.predict.grpc_client import D2ServeGrpcClient
from d2serve.client.predict.http_client import D2ServeClient
from d2serve.server.torchserve.config.listening import Listening


class ReachableServer(ABC):
    """A server with addresses, tokens and clients; each client is made when it is asked for."""

    def __init__(self, listening: Listening, settings: Mapping[str, str]) -> None:
        """
        Args:
            listening: where it listens.
            settings: of its config.properties.
        """
        self.ports = listening.ports
        self.listening = listening
        self.inference_address = listening.inference_address
        self.grpc_address = listening.grpc_address
        self.management_address = listening.ports.address("management")
        self.metrics_address = listening.ports.address("metrics")
        self._settings = dict(settings)
        self._store: Path | None = None
        self._http: D2ServeClient | None = None
        self._grpc: D2ServeGrpcClient | None = None
        self._management: ManagementClient | None = None

    @property
    @abstractmethod
    def directory(self) -> Path:
        """The server's working directory; it is deleted when the server stops."""

    @property
    def key_file(self) -> Path | None:
        """TorchServe's key_file.json; None where token authorization is disabled."""
        disabled = self._settings.get("disable_token_authorization", "false").lower() == "true"
        return None if disabled else self.directory / KEY_FILE_NAME

    @property
    def inference_token(self) -> str | None:
        """The one of the moment, which ends when it is renewed: give clients the key file."""
        return None if self.key_file is None else KeyFile(self.key_file).inference

    @property
    def management_token(self) -> str | None:
        """As ``inference_token``."""
        return None if self.key_file is None else KeyFile(self.key_file).management

    @property
    def http(self) -> D2ServeClient:
        """A client of this server, closed when it stops."""
        if self._http is None:
            self._http = D2ServeClient(
                self.inference_address, **self.listening.of_clients(self.key_file)
            )
        return self._http

    @property
    def grpc(self) -> D2ServeGrpcClient:
        """A gRPC client of this server, closed when it stops."""
        if self._grpc is None:
            self._grpc = D2ServeGrpcClient(
                self.grpc_address, **self.listening.of_clients(self.key_file)
            )
        return self._grpc

    @property
    def management(self) -> ManagementClient:
        """A management client of this server, closed when it stops."""
        if self._management is None:
            self._management = ManagementClient(
                self.management_address, key_file=self.key_file, model_store=self._store
            )
        return self._management

    def _close_clients(self) -> None:
        """Close those that were asked for; the next ones are new."""
        for client in (self._http, self._grpc, self._management):
            if client is not None:
                client.close()
        self._http = self._grpc = self._management = None
