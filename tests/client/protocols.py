"""The three clients behind one face, and servers that each of them understands."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

from d2serve.client.connection.retrying import Retry
from d2serve.client.predict.grpc_client import D2ServeGrpcClient
from d2serve.client.predict.http_client import D2ServeClient
from tests.client.answers import Answer, Identity, Requests, grpc_server, http_server
from tests.client.blocking import AnyClient, BlockingAsyncClient

QUICK = Retry(seconds=20, first_pause=0.01, longest_pause=0.02)
NAMES = ["http", "async", "grpc"]


class Protocol:
    """One of the clients, and servers that it understands."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.is_grpc = name == "grpc"
        self._made: list[AnyClient] = []
        self._client = {
            "http": D2ServeClient,
            "async": BlockingAsyncClient,
            "grpc": D2ServeGrpcClient,
        }[name]

    def client(self, address: str, retry: Retry = QUICK, **settings: Any) -> AnyClient:
        token = {} if "key_file" in settings else {"token": "t"}
        made: AnyClient = self._client(address, retry=retry, **{**token, **settings})
        self._made.append(made)
        return made

    def close(self) -> None:
        for client in self._made:
            if not isinstance(client, BlockingAsyncClient):
                client.close()

    def server(
        self, *answers: Answer, identity: Identity | None = None
    ) -> AbstractContextManager[Requests]:
        serve = grpc_server if self.is_grpc else http_server
        return serve(*answers, identity=identity)
