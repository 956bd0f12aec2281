"""A database in memory for FiftyOne, whose own, MongoDB, no registry of Python's has."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import fiftyone as fo
import mongoengine
import mongomock
import pymongo
import pytest


class _Client(mongomock.MongoClient):  # type: ignore[misc]  # it has no types
    """What FiftyOne asks of a client beyond what mongomock has."""

    _closed = False  # otherwise the database of this name, which is true

    def server_info(self) -> dict[str, Any]:
        return {"version": "7.0.0", "versionArray": [7, 0, 0, 0], "ok": 1}


@contextmanager
def database_in_memory() -> Iterator[None]:
    """FiftyOne's data sets lie in memory while this is entered."""
    client = _Client()
    connect = mongoengine.connect

    def connected(name: str, **_: Any) -> Any:
        return connect(name, host="mongodb://memory", mongo_client_class=lambda *_, **__: client)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pymongo, "MongoClient", lambda *_, **__: client)
        patch.setattr(mongoengine, "connect", connected)
        patch.setattr(fo.config, "database_uri", "mongodb://memory")
        patch.setattr(fo.config, "database_validation", False)
        patch.setattr(fo.config, "do_not_track", True)
        yield
