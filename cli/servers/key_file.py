"""The link to a server's key file, where clients look for it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from d2serve.client.connection.credentials import KEY_FILE_NAME
from d2serve.server.torchserve.process import TorchServeProcess


@contextlib.contextmanager
def published_key_file(server: TorchServeProcess) -> Iterator[Path | None]:
    """Link the key file into the current directory, where TorchServe itself would put it and
    `d2serve predict` looks; another server's key file there is left alone."""
    if server.key_file is None:
        yield None
        return
    link = Path.cwd() / KEY_FILE_NAME
    if link.is_symlink() and not link.exists():
        link.unlink()
    try:
        link.symlink_to(server.key_file)
    except OSError:
        yield server.key_file
        return
    try:
        yield link
    finally:
        if link.is_symlink() and link.readlink() == server.key_file:
            link.unlink()
