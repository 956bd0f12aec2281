"""What one line of TorchServe's log says: when, how serious, from where, and of which request.

TorchServe writes lines for people (its log4j2.xml: time, level, thread, logger, message). A
worker's lines come through it, each under the logger ``MODEL_LOG`` and the level ``INFO``.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

from d2serve.handlers.torchserve.request_line import PREFIX

WORKERS = "MODEL_LOG"
"""The logger of what workers write."""
REQUESTS = "d2serve.request"
"""The logger that is named for a line on what became of a request."""
_ACCESS = "ACCESS_LOG"
_OWN = "torchserve"
"""The logger that is named for a line without one."""

_HEAD = re.compile(
    r"(?P<time>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d,\d{3}) \[(?P<level>[A-Z]+) *\] (?P<source>.+?) "
    r"(?P<logger>[\w.$]+) - (?P<message>.*)"
)
_ACCESSED = re.compile(
    r'/?(?P<client>\S+) "(?P<method>\S+) (?P<path>.*) (?P<protocol>HTTP/\S+)" '
    r"(?P<status>\d+) (?P<ms>\d+)"
)


@dataclass
class Record:
    """One event of the log."""

    time: datetime
    level: str
    logger: str
    source: str
    """The thread of Java, which is named for the worker whose lines it passes on."""
    lines: list[str]
    """The message."""
    more: dict[str, Any] = field(default_factory=dict)
    """What is known beside it, by name."""

    def as_json(self) -> str:
        """A JSON object on one line, in ASCII."""
        time = self.time.astimezone(timezone.utc).isoformat(timespec="milliseconds")
        known = {
            "time": time.replace("+00:00", "Z"),
            "level": self.level,
            "logger": self.logger,
            "source": self.source,
            "message": "\n".join(self.lines).strip("\n"),
        }
        return json.dumps({**known, **self.more}, separators=(",", ":"))


def record_of(line: str) -> Record | None:
    """The record that a line begins; None where it goes on with one, or belongs to none."""
    head = _HEAD.fullmatch(line)
    if head is None:
        return None
    time = datetime.fromisoformat(head["time"].replace(",", "."))  # of the machine's time zone
    record = Record(time, head["level"], head["logger"], head["source"], [head["message"]])
    if record.logger == _ACCESS:
        _read_access(record, head["message"])
    elif record.logger == WORKERS and head["message"].startswith(PREFIX + "{"):
        _read_request(record, head["message"][len(PREFIX) :])
    return record


def bare_record(line: str) -> Record:
    """The record of a line that nothing is known of: Java's own, or of the launcher."""
    return Record(datetime.now(timezone.utc), "INFO", _OWN, "stdout", [line])


def _read_access(record: Record, message: str) -> None:
    """Over gRPC the method is ``gRPC``, and the status one of gRPC's, where 0 is good."""
    found = _ACCESSED.fullmatch(message)
    if found is None:
        return
    status = "grpc_status" if found["method"] == "gRPC" else "status"
    record.more = {name: found[name] for name in ("client", "method", "path", "protocol")}
    record.more.update({status: int(found["status"]), "duration_ms": int(found["ms"])})


def _read_request(record: Record, text: str) -> None:
    """Take over what the handler says of a request (handlers/torchserve/request_line.py)."""
    try:
        fields = json.loads(text)
        record.level, record.lines = str(fields.pop("level")), [str(fields.pop("message"))]
    except (ValueError, KeyError, AttributeError):  # not the handler's: it stays a message
        return
    record.logger, record.more = REQUESTS, fields
