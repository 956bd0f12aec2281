"""The clients of a server that was started here: they know its addresses and its tokens."""

from __future__ import annotations

from pathlib import Path

from d2serve.client.management import ManagementClient
from d2serve.client.predict.grpc_client import D2ServeGrpcClient
from d2serve.client.predict.http_client import D2ServeClient


class ServerClients:
    """The clients of one server, each made when it is first asked for."""

    def __init__(self, inference: str, grpc: str, management: str) -> None:
        """
        Args:
            inference, grpc, management: the server's addresses.
        """
        self._addresses = inference, grpc, management
        self._http: D2ServeClient | None = None
        self._grpc: D2ServeGrpcClient | None = None
        self._management: ManagementClient | None = None

    def http(self, key_file: Path | None) -> D2ServeClient:
        if self._http is None:
            self._http = D2ServeClient(self._addresses[0], key_file=key_file)
        return self._http

    def grpc(self, key_file: Path | None) -> D2ServeGrpcClient:
        if self._grpc is None:
            self._grpc = D2ServeGrpcClient(self._addresses[1], key_file=key_file)
        return self._grpc

    def management(self, key_file: Path | None, store: Path | None) -> ManagementClient:
        if self._management is None:
            self._management = ManagementClient(
                self._addresses[2], key_file=key_file, model_store=store
            )
        return self._management

    def close(self) -> None:
        """Close those that were asked for; the next ones are new."""
        for client in (self._http, self._grpc, self._management):
            if client is not None:
                client.close()
        self._http = self._grpc = self._management = None
