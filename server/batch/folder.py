"""The folder of results, here or at an address: files that are there whole or not at all."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from d2serve.client.errors import ClientError
from d2serve.client.whole_files import PARTIAL, written_whole
from d2serve.server.batch.errors import BatchRefused
from d2serve.server.images.stored import file_system, is_address, opened, read_bytes

# An object is there when its last byte is: no other name is needed until then.
_WHOLE_BY_THEMSELVES = {"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "oci", "oss", "memory"}
_LOCK = "_d2serve_batch.lock"


class Folder:
    """A folder of this machine or at an address.

    Its methods raise BatchRefused where it cannot be read or written.
    """

    def __init__(self, where: str) -> None:
        self.where = where.rstrip("/") or "/"

    def path(self, name: str) -> str:
        """The path or address of a file in it."""
        return f"{self.where}/{name}"

    def names(self) -> list[str]:
        """Of what is in it, sorted; none where it is not there yet."""
        with self._used():
            if not is_address(self.where):
                folder = Path(self.where)
                return sorted(each.name for each in folder.iterdir()) if folder.is_dir() else []
            files, path = file_system(self.where)
            files.invalidate_cache()
            try:
                found = files.ls(path, detail=False)
            except FileNotFoundError:
                return []
            return sorted(each.rstrip("/").rpartition("/")[2] for each in found)

    def read(self, name: str) -> bytes:
        """The bytes of a file."""
        with self._used():
            return read_bytes(self.path(name))

    def open(self, name: str) -> Any:
        """A file to read."""
        with self._used():
            return opened(self.path(name))

    def write(self, name: str, data: bytes) -> None:
        """Write a file, which takes the place of one of its name in one step."""
        with self._used():
            if is_address(self.where):
                self._put(name, data)
                return
            Path(self.where).mkdir(parents=True, exist_ok=True)
            with written_whole(Path(self.path(name))) as file:
                file.write(data)

    def _put(self, name: str, data: bytes) -> None:
        files, path = file_system(self.path(name))
        protocols = {files.protocol} if isinstance(files.protocol, str) else set(files.protocol)
        if protocols & _WHOLE_BY_THEMSELVES:
            files.pipe_file(path, data)
            return
        parent, _, last = path.rpartition("/")
        files.makedirs(parent, exist_ok=True)
        partial = f"{parent}/.{last}.{uuid.uuid4().hex[:8]}{PARTIAL}"
        files.pipe_file(partial, data)
        files.mv(partial, path)

    def sweep(self) -> None:
        """Remove what an interrupted writer left half."""
        for name in self.names():
            if not (name.startswith(".") and name.endswith(PARTIAL)):
                continue
            if is_address(self.where):
                files, path = file_system(self.path(name))
                files.rm_file(path)
            else:
                Path(self.path(name)).unlink(missing_ok=True)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes of this machine from writing into it meanwhile.

        At an address nothing can be locked: two that write there would answer images twice.

        Raises:
            BatchRefused: another one does.
        """
        if is_address(self.where):
            yield
            return
        with self._used():
            Path(self.where).mkdir(parents=True, exist_ok=True)
            Path(self.path(_LOCK)).touch()
        with Path(self.path(_LOCK)).open("wb") as file:
            try:
                import fcntl

                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except ImportError:  # Windows
                pass
            except OSError as error:
                raise BatchRefused(
                    f"Another `d2serve batch` writes into {self.where}. Wait until it has ended, "
                    "or name another folder with --output."
                ) from error
            yield

    @contextlib.contextmanager
    def _used(self) -> Iterator[None]:
        try:
            yield
        except ClientError:
            raise
        except Exception as error:  # of whatever library the address belongs to
            raise BatchRefused(
                f"{self.where} cannot be used for results ({str(error) or type(error).__name__}). "
                "Expected a folder or address that you may read and write, with room. What was "
                "written before stays."
            ) from error
