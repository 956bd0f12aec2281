"""Puts together the lines of the log that are one event: a message and its traceback.

Java writes an exception at once, as lines without a head behind the message. What a worker
writes comes line by line, each with a head, and those of other workers in between.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator

from d2serve.server.torchserve.logs.records import REQUESTS, WORKERS, Record, bare_record, record_of

SECONDS_TO_WAIT = 0.2
"""How long a record may wait for its next line; Java passes on a worker's within milliseconds."""
_MOST_LINES = 500
_OF_WORKERS = (WORKERS, REQUESTS)
_JAVA = ""
_TRACEBACK = "Traceback (most recent call last):"
_CHAINED = (
    "During handling of the above exception, another exception occurred:",
    "The above exception was the direct cause of the following exception:",
)
_EXCEPTION = re.compile(r"[A-Za-z_][\w.]*(: .*)?")
_INDENT = (" ", "\t")


class Joiner:
    """Makes records of lines. One waits until it is seen that nothing follows it."""

    def __init__(self) -> None:
        self._waiting: dict[str, tuple[Record, float]] = {}
        """Records and when they came: the last of each worker, by source, and Java's own."""

    def feed(self, line: str) -> Iterator[Record]:
        """The records that are complete with this line."""
        yield from self.due()
        begun = record_of(line)
        key = begun.source if begun and begun.logger in _OF_WORKERS else _JAVA
        before, _ = self._waiting.get(key, (None, 0))
        if before is not None and _goes_on(before, begun):
            before.lines.append(begun.lines[0] if begun else line)
            if before.lines[-1].startswith(_TRACEBACK):
                before.level = "ERROR"  # of whatever workers write TorchServe says INFO
            return
        # Java writes an event at once: a line with a head says that there is no more of the last.
        for each in dict.fromkeys([_JAVA, key] if begun else [key]):
            if each in self._waiting:
                yield self._waiting.pop(each)[0]
        record = begun or bare_record(line)
        if record.more:  # complete in one line
            yield record
        else:
            self._waiting[key] = record, time.monotonic()

    def due(self) -> Iterator[Record]:
        """The records that have waited long enough."""
        now = time.monotonic()
        for key, (_, came) in list(self._waiting.items()):
            if now - came >= SECONDS_TO_WAIT:
                yield self._waiting.pop(key)[0]

    def rest(self) -> Iterator[Record]:
        """The records that still wait."""
        while self._waiting:
            yield self._waiting.pop(next(iter(self._waiting)))[0]


def _goes_on(before: Record, begun: Record | None) -> bool:
    """Whether a line belongs to the record before it.

    Args:
        before: of the same source.
        begun: what the line would be by itself; None where it has no head.
    """
    if len(before.lines) >= _MOST_LINES:
        return False
    if begun is None:
        return True
    if begun.logger != WORKERS or begun.more:
        return False
    (text,) = begun.lines
    if not text or text.startswith(_INDENT) or text.startswith(_TRACEBACK) or text in _CHAINED:
        return True
    is_within = any(each.startswith(_TRACEBACK) for each in before.lines)
    return is_within and before.lines[-1].startswith(_INDENT) and bool(_EXCEPTION.fullmatch(text))
