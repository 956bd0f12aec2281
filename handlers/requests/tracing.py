"""The trace that a request belongs to, which its caller names in the header ``traceparent``.

It leads from a request's line in the log to what other services did for the same user. Only
hexadecimal digits in their places pass, so nothing else that a client sent gets into a log.
The form is that of https://www.w3.org/TR/trace-context/#traceparent-header.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

TRACE_HEADER = "traceparent"
_FORM = re.compile(
    r"(?P<version>[0-9a-f]{2})-(?P<trace>[0-9a-f]{32})-(?P<span>[0-9a-f]{16})-[0-9a-f]{2}"
    r"(?P<more>-.*)?",
    re.ASCII,
)
_INVALID_VERSION = "ff"
_FIRST_VERSION = "00"


class Trace(NamedTuple):
    """Where in a trace a request stands."""

    trace_id: str
    """32 hexadecimal digits."""
    span_id: str
    """16 hexadecimal digits: the caller's span. We make none of our own."""


def trace_of(headers: Mapping[str, str]) -> Trace | None:
    """The trace that headers name; None where they name none, or not as the standard says."""
    values = [value for name, value in headers.items() if name.lower() == TRACE_HEADER]
    form = _FORM.fullmatch(values[0].strip()) if len(values) == 1 else None
    if form is None or form["version"] == _INVALID_VERSION:
        return None
    if form["version"] == _FIRST_VERSION and form["more"]:  # later ones may have more
        return None
    trace = Trace(form["trace"], form["span"])
    return trace if all(each.strip("0") for each in trace) else None
