"""Start, watch and stop servers of archives, and read what an archive says of itself.

    from d2serve.server import TorchServeProcess

    with TorchServeProcess({"shapes": "model_store/shapes.mar"}) as server:
        print(server.http.predict("shapes", "image.jpg"))

The names below are the public ones. Each is imported when it is first used, so that reading an
archive loads no client. A server runs on Linux and macOS; all else works on Windows as well.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from d2serve.client.errors import ArchiveRefused, JavaNotFound, ServerStartError
    from d2serve.server.archives.contents import ArchiveContents, read_contents
    from d2serve.server.torchserve.config.ports import Ports
    from d2serve.server.torchserve.process import TorchServeProcess

__all__ = [
    "ArchiveContents",
    "ArchiveRefused",
    "JavaNotFound",
    "Ports",
    "ServerStartError",
    "TorchServeProcess",
    "read_contents",
]

_HOMES = {
    "ArchiveContents": "server.archives.contents",
    "ArchiveRefused": "client.errors",
    "JavaNotFound": "client.errors",
    "Ports": "server.torchserve.config.ports",
    "ServerStartError": "client.errors",
    "TorchServeProcess": "server.torchserve.process",
    "read_contents": "server.archives.contents",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"d2serve.{_HOMES[name]}"), name)
