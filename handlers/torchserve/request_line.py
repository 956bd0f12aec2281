"""The line of the worker's log that says what became of a request: as text, or as a JSON object.

An operator who has the id of a request finds out by it what became of it. The id is TorchServe's,
which a client gets in the reply; TorchServe's own access log lacks it. Nothing that a client sent
is in the line, but for the digits of its trace: a line that began with ``[METRICS]`` would be a
metric to TorchServe.
"""

from __future__ import annotations

import json
import logging
from typing import Any

from d2serve.handlers.replies.reply import OK, Reply
from d2serve.handlers.timing import STEPS

LOG_FORMAT = "D2SERVE_LOG_FORMAT"
"""The variable of the environment that says how a worker writes the line."""
TEXT, JSON = "text", "json"
PREFIX = "d2serve: "
"""Of each line that the handler writes."""

_ANSWERED, _REFUSED, _FAILED = "answered", "refused", "failed"


def fields_of(reply: Reply, model: str, version: str) -> dict[str, Any] | None:
    """What there is to say of a request; None of metadata, which has no line.

    ``ms`` has the milliseconds of each step; ``batch`` is how many images shared its forward.
    """
    fields: dict[str, Any] = {"level": "INFO", "message": _ANSWERED, "request_id": reply.request_id}
    if reply.trace is not None:
        fields.update(reply.trace._asdict())
    fields.update(model=model, version=version, status=reply.status, code=reply.code)
    if reply.code != OK:
        fields["message"] = _REFUSED
        if reply.status >= 500:  # the reason is in the log where it is not the client's
            fields.update(level="ERROR", message=_FAILED, error=reply.message)
        return fields
    found, call = reply.found, reply.call
    if found is None or call is None:
        return None
    fields.update(found._asdict(), batch=call.images)
    fields["ms"] = {step: round(1000 * reply.seconds[step], 2) for step in STEPS}
    return fields


def level_of(fields: dict[str, Any]) -> int:
    """Python's number of the line's level."""
    return logging.ERROR if fields["level"] == "ERROR" else logging.INFO


def as_json(fields: dict[str, Any]) -> str:
    """The line as a JSON object of one line, in ASCII."""
    return PREFIX + json.dumps(fields, separators=(",", ":"))


def as_text(fields: dict[str, Any]) -> str:
    """The line for people."""
    line = f"{PREFIX}{fields['request_id']} {fields['message']}: "
    if fields["message"] == _ANSWERED:
        objects = "-" if fields["objects"] is None else fields["objects"]
        line += f"{fields['width']}x{fields['height']}, {objects} found, batch of {fields['batch']}"
        line += ", ms:" + "".join(f" {step} {ms:.1f}" for step, ms in fields["ms"].items())
    else:
        line += f"{fields['status']} {fields['code']}"
        line += f": {fields['error']!a}" if "error" in fields else ""
    if "trace_id" in fields:
        line += f", trace {fields['trace_id']} span {fields['span_id']}"
    return line
