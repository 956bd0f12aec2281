"""Images in shards: tar files, as WebDataset has them, and parquet files with paths or bytes."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

from d2serve.server.images.image_file import FileImage, ImageFile, ParquetImage, TarImage
from d2serve.server.images.listing import is_image
from d2serve.server.images.stored import ImagesUnreadable, beside, opened

_BYTES = ("image", "bytes", "image_bytes", "jpg", "jpeg", "png", "webp", "content", "data")
_PATHS = ("path", "file_name", "filename", "image_path", "file_path", "uri", "url", "image", "file")
"""Names of columns, the likelier first; case does not count."""


def of_tar(shard: str) -> Iterator[ImageFile]:
    """The images of a tar file, by the names of its members; other members are left out.

    Raises:
        ImagesUnreadable: it is none, is damaged, or is compressed.
    """
    try:
        with opened(shard) as file, tarfile.open(fileobj=file, mode="r:") as archive:
            for member in archive:
                if member.isreg() and is_image(PurePosixPath(member.name).name):
                    name = f"{shard}::{member.name}"
                    yield TarImage(name, shard, member.offset_data, member.size)
    except (tarfile.TarError, OSError) as error:
        raise ImagesUnreadable(
            f"{shard} cannot be read as a tar file ({error}). Expected one that is not compressed, "
            "so that an image can be read without the others."
        ) from error


def of_parquet(shard: str) -> Iterator[ImageFile]:
    """The images of a parquet file, row by row: those whose bytes it holds, or whose paths.

    A column of structs with ``bytes`` and ``path``, as Hugging Face's data sets have it, comes
    before one of bytes, and that before one of paths, which are those of files beside the shard.

    Raises:
        ImagesUnreadable: it is none, is damaged, has no such column, or pyarrow is missing.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise ImagesUnreadable(
            f"Got {shard}. Parquet needs the package pyarrow, which is not installed ({error}). "
            "Install it: pip install 'd2serve[batch]'"
        ) from error
    try:
        with opened(shard) as file:
            parquet = pyarrow.parquet.ParquetFile(file)
            yield from _rows(shard, parquet, *_columns(shard, parquet.schema_arrow))
    except (pyarrow.ArrowException, OSError) as error:
        raise ImagesUnreadable(
            f"{shard} cannot be read as parquet ({error}). Copy it again, or write it again."
        ) from error


def _columns(shard: str, schema: Any) -> tuple[str | None, str | None]:
    """The column of bytes and that of paths; one of them may be None."""
    from pyarrow import types

    def is_bytes(kind: Any) -> bool:
        return bool(types.is_binary(kind) or types.is_large_binary(kind))

    def is_text(kind: Any) -> bool:
        return bool(types.is_string(kind) or types.is_large_string(kind))

    for field in schema:
        if types.is_struct(field.type) and field.type.get_field_index("bytes") >= 0:
            has_path = field.type.get_field_index("path") >= 0
            return f"{field.name}.bytes", f"{field.name}.path" if has_path else None
    held = {field.name.lower(): field.name for field in schema if is_bytes(field.type)}
    named = {field.name.lower(): field.name for field in schema if is_text(field.type)}
    holds = next((held[name] for name in _BYTES if name in held), None)
    if holds is None and len(held) == 1:
        (holds,) = held.values()
    names = next((named[name] for name in _PATHS if name in named), None)
    if holds is None and names is None:
        raise ImagesUnreadable(
            f"{shard} has the columns {', '.join(schema.names)}: none has images. Expected one of "
            f"bytes (such as {_BYTES[0]}), of structs with bytes and path, or of paths (such as "
            f"{_PATHS[0]})."
        )
    return holds, names


def _rows(shard: str, parquet: Any, holds: str | None, names: str | None) -> Iterator[ImageFile]:
    paths = _paths(parquet, names)
    # The same path twice is the same file, but not the same bytes.
    told_apart = None not in paths and len(set(paths)) == len(paths)
    number = 0
    for group in range(parquet.num_row_groups):
        is_null = _is_null(parquet, holds, group)
        for row in range(parquet.metadata.row_group(group).num_rows):
            path = paths[number] if names else None
            if (holds is None or is_null[row]) and path is not None:
                yield FileImage(beside(shard, path))
            elif holds is not None:
                member = path if names and told_apart else number
                yield ParquetImage(f"{shard}::{member}", shard, holds, group, row)
            number += 1


def _paths(parquet: Any, column: str | None) -> list[str | None]:
    if column is None:
        return []
    return list(_values(parquet.read(columns=[column]), column))


def _is_null(parquet: Any, column: str | None, group: int) -> list[bool]:
    """Whether each row of a group lacks its bytes; they are only read where one may."""
    if column is None:
        return []
    rows = parquet.metadata.row_group(group)
    for index in range(rows.num_columns):
        about = rows.column(index)
        if about.path_in_schema == column:
            counted = about.statistics is not None and about.statistics.has_null_count
            if counted and about.statistics.null_count in (0, rows.num_rows):
                return [about.statistics.null_count > 0] * rows.num_rows
    table = parquet.read_row_group(group, columns=[column])
    return [value is None for value in _values(table, column)]


def _values(table: Any, column: str) -> Iterator[Any]:
    field = column.partition(".")[2]
    for value in table.column(0).to_pylist():
        yield (value or {}).get(field) if field else value
