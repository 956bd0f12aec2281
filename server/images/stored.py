"""Files of this machine and at addresses, in one way: local ones need the standard library only.

An address, such as ``s3://bucket/photos``, is fsspec's; what it wants to know beside, a key or an
endpoint, it takes from its own settings and the environment.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import IO, Any

from d2serve.client.errors import ClientError

_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")


class ImagesUnreadable(ClientError):
    """No images can be found there: it is missing, empty, or cannot be read."""


def is_address(where: str) -> bool:
    """Whether this is an address, and no path of this machine."""
    return _ADDRESS.match(where) is not None


def file_system(address: str) -> tuple[Any, str]:
    """fsspec's file system for an address, and the path in it.

    Raises:
        ImagesUnreadable: a package for it is missing, or there is none.
    """
    try:
        import fsspec
    except ImportError as error:
        raise ImagesUnreadable(
            f"Got {address}. An address needs the package fsspec, which is not installed "
            f"({error}). Install it: pip install 'd2serve[batch]'"
        ) from error
    try:
        found: tuple[Any, str] = fsspec.url_to_fs(address)
    except ImportError as error:  # it names the package, such as s3fs
        raise ImagesUnreadable(f"Got {address}. {error}: pip install it beside d2serve.") from error
    except Exception as error:
        raise ImagesUnreadable(f"{address} is no address that can be read ({error}).") from error
    return found


def opened(where: str) -> IO[bytes]:
    """A file to read and to move about in.

    Raises:
        OSError: it cannot be read.
        ImagesUnreadable: see ``file_system``.
    """
    if not is_address(where):
        return Path(where).open("rb")
    files, path = file_system(where)
    opened: IO[bytes] = files.open(path, "rb")
    return opened


def read_bytes(where: str, start: int | None = None, end: int | None = None) -> bytes:
    """The bytes of a file, or those from ``start`` to ``end``; raises as ``opened`` does."""
    if is_address(where):
        files, path = file_system(where)
        return bytes(files.cat_file(path, start=start, end=end))
    with Path(where).open("rb") as file:
        file.seek(start or 0)
        return file.read() if end is None else file.read(end - (start or 0))


def beside(where: str, name: str) -> str:
    """What a name in a file stands for: as it is where it is absolute, else beside the file."""
    if is_address(name):
        return name
    if is_address(where):
        return name if name.startswith("/") else f"{where.rpartition('/')[0]}/{name}"
    return str(Path(where).parent / name)
