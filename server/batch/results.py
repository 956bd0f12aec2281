"""The results of a job: parquet parts, each path once, and what is there already."""

from __future__ import annotations

import io
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from d2serve.server.batch.columns import ERROR_CODE, PATH
from d2serve.server.batch.errors import BatchRefused
from d2serve.server.batch.folder import Folder
from d2serve.server.batch.rows import Row, shown

_PREFIX, _SUFFIX = "part-", ".parquet"

# A part is written when it has this much, or when this part of the time so far went by: an
# interruption costs a tenth of the work at most, and a minute of it.
_MOST_BYTES = 64 << 20
_PART_OF_TIME, _FEWEST_SECONDS, _MOST_SECONDS = 0.1, 2.0, 60.0


class Results:
    """A folder of parts, to which rows are added. One writer at a time."""

    def __init__(self, folder: Folder, schema: Any) -> None:
        """
        Raises:
            BatchRefused: a part that is there cannot be read.
        """
        self._folder = folder
        self._schema = schema
        # Both in one place, which changes in one step: Ctrl-C may come between any two.
        self._state: tuple[tuple[str, ...], list[Any]] = tuple(filter(_is_part, folder.names())), []
        # Random, so that two writers that know nothing of each other destroy nothing.
        self._writer = uuid.uuid4().hex[:8]
        self.codes: Counter[str | None] = Counter()
        """How many images there are of each error code; None counts the answers."""
        self._done: set[str] = set()
        for part in self.parts:
            self._count(self._read(part, [PATH, ERROR_CODE]))
        self.kept = sum(self.codes.values())
        """Images that were there before."""
        self._began = self._written = time.monotonic()

    @property
    def parts(self) -> tuple[str, ...]:
        """Names of the files."""
        return self._state[0]

    def has(self, name: str) -> bool:
        """Whether an image of this name has a row."""
        return shown(name) in self._done

    def add(self, table: Any) -> int:
        """Take rows, leaving out those of paths that have one; returns how many were taken."""
        paths = table.column(PATH).to_pylist()
        new = [i for i, path in enumerate(paths) if path not in self._done]
        table = table if len(new) == len(paths) else table.take(pa.array(new, pa.int64()))
        self._count(table)
        _, waiting = self._state
        waiting.append(table)
        now = time.monotonic()
        patience = (now - self._began) * _PART_OF_TIME
        patience = min(max(patience, _FEWEST_SECONDS), _MOST_SECONDS)
        size = sum(each.nbytes for each in waiting)
        if size >= _MOST_BYTES or now - self._written >= patience:
            self.flush()
        return len(new)

    def flush(self) -> None:
        """Write what waits as a part; after an interruption the same part is written again."""
        parts, waiting = self._state
        table = pa.concat_tables(waiting) if waiting else None
        if table is not None and table.num_rows:
            file = io.BytesIO()
            pq.write_table(table, file, compression="zstd")
            name = f"{_PREFIX}{len(parts):05d}-{self._writer}{_SUFFIX}"
            self._folder.write(name, file.getvalue())
            self._state = (*parts, name), []
        self._written = time.monotonic()

    def rows(self) -> Iterator[Row]:
        """All rows that were written, part by part."""
        for part in self.parts:
            yield from self._read(part, None).to_pylist()

    def _count(self, table: Any) -> None:
        self._done.update(table.column(PATH).to_pylist())
        self.codes.update(table.column(ERROR_CODE).to_pylist())

    def _read(self, part: str, columns: list[str] | None) -> Any:
        try:
            with self._folder.open(part) as file:
                return pq.read_table(file, columns=columns)
        except (pa.ArrowException, OSError) as error:
            raise BatchRefused(
                f"{self._folder.path(part)} cannot be read ({error}). Remove it, and the images in "
                "it are answered again."
            ) from error


def _is_part(name: str) -> bool:
    return name.startswith(_PREFIX) and name.endswith(_SUFFIX)
