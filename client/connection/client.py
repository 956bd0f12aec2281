"""The client that all others are: constructed in the same way, whatever it talks over."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from d2serve.client.connection.settings import Connection, ConnectionSettings

if TYPE_CHECKING:
    from typing_extensions import Unpack


class Client:
    """Holds the connection to one address of a server."""

    default_address: ClassVar[str]
    token_kind: ClassVar[str] = "inference"

    def __init__(self, address: str | None = None, **settings: Unpack[ConnectionSettings]) -> None:
        """
        Args:
            address: ``host:port``, ``http://...``, or ``https://...`` for encryption (TLS); None
                is that of a server on this machine, started with TorchServe's own ports.
            **settings: how to reach it, see ``ConnectionSettings``: token or key_file, timeout,
                retry, ca_file, server_name, headers, allow_token_in_clear.

        Raises:
            InvalidInput: a setting is wrong.
            InsecureConnection: the token would cross a network without encryption.
        """
        self._connection = Connection(
            self.token_kind, self.default_address if address is None else address, **settings
        )

    @property
    def address(self) -> str:
        """The server's, with its scheme."""
        return self._connection.url
