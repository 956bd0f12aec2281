"""An image that was found: its name, and how to read it, on this machine or on another one."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Union

from d2serve.server.images.stored import opened, read_bytes


@dataclass(frozen=True)
class FileImage:
    """A file."""

    name: str
    """Its path as it was found, or its address."""

    def read(self) -> bytes:
        """Its bytes; raises OSError where it cannot be read."""
        return read_bytes(self.name)


@dataclass(frozen=True)
class TarImage:
    """A member of a tar file that is not compressed, read without the others."""

    name: str
    """``SHARD::MEMBER``"""
    shard: str
    start: int
    """Where its bytes begin in the shard."""
    size: int

    def read(self) -> bytes:
        """Its bytes; raises OSError where they cannot be read."""
        return read_bytes(self.shard, self.start, self.start + self.size)


@dataclass(frozen=True)
class ParquetImage:
    """A value in a column of bytes."""

    name: str
    """``SHARD::MEMBER``"""
    shard: str
    column: str
    """With dots, where the bytes are a field of it."""
    group: int
    """Number of the row group, which is read whole and kept for its neighbours."""
    row: int
    """Within the group."""

    def read(self) -> bytes:
        """Its bytes; raises OSError where they cannot be read."""
        value = _column(self.shard, self.column, self.group)[self.row].as_py()
        if value is None:
            raise OSError(f"{self.name} is null in the column {self.column}")
        return bytes(value)


@lru_cache(maxsize=2)
def _column(shard: str, column: str, group: int) -> Any:
    import pyarrow.compute
    import pyarrow.parquet

    with opened(shard) as file:
        table = pyarrow.parquet.ParquetFile(file).read_row_group(group, columns=[column])
    values = table.column(0)
    for field in column.split(".")[1:]:
        values = pyarrow.compute.struct_field(values, field)
    return values


ImageFile = Union[FileImage, TarImage, ParquetImage]
