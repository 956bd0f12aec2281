"""Until when the answer to a request is waited for: a request that is later is not computed.

A request may lie in a server's queue longer than its client waits; TorchServe answers it all the
same, and whoever comes next waits for that. When a request came, the queue does not tell, so the
deadline is a time by the clock, in seconds since 1970 (Unix time), which the client or a proxy
says. One that cannot add, as nginx, writes the sum: ``1790000000.25+30``.

It comes as the header ``X-Request-Deadline``, which archives older than it ignore, or as
``deadline`` like an option, over every transport. It is no option of the model.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from typing import Any

from d2serve.handlers.errors import DeadlineExceeded, InvalidOption
from d2serve.handlers.requests.request import Call, Request

NAME = "deadline"
HEADER = "x-request-deadline"

FARTHEST_SECONDS = 86_400.0
"""Of a deadline from now. What is farther away was meant in another way: as a duration, or in
milliseconds."""

_TERM = r"\d{1,12}(?:\.\d{0,9})?"
_TIME = re.compile(rf"\s*({_TERM})(?:\s*\+\s*({_TERM}))?\s*", re.ASCII)


def deadline_of(call: Call | Request, options: Mapping[str, Any]) -> float | None:
    """When nobody waits any more for the answer to a request, in Unix seconds; None if not said.

    The client and a proxy may both say one: the earlier one holds.

    Args:
        call: its headers, and what the server itself knows.
        options: those of the request, by name; others than the deadline are left alone.

    Raises:
        InvalidOption: one is no time within a day of now.
    """
    given = [value for name, value in call.headers.items() if name.lower() == HEADER]
    given += [options[NAME]] if options.get(NAME) is not None else []
    known = [] if call.deadline is None else [call.deadline]
    return min([*known, *map(_read, given)], default=None)


def check_in_time(deadline: float | None) -> None:
    """Refuse a request that nobody waits for.

    Raises:
        DeadlineExceeded: its deadline is over.
    """
    late = 0.0 if deadline is None else time.time() - deadline
    if late > 0:
        raise DeadlineExceeded(
            f"The deadline of this request was over {late:.1f} s before the server came to it, so "
            "nothing was computed. The server has more to do than it can in that time: send less "
            "at once, wait longer (of d2serve's clients: raise `timeout`) or add workers. If it "
            "happens to a server that is idle, the sender's clock is behind the server's."
        )


def _read(value: Any) -> float:
    seconds = _seconds(value)
    now = time.time()
    if seconds is None or not abs(seconds - now) <= FARTHEST_SECONDS:
        text = ascii(value)
        shown = text if len(text) <= 40 else text[:40] + "..."
        raise InvalidOption(
            f"Got the option {NAME}={shown}, expected until when the answer is waited for, in "
            f"seconds since 1970 and within a day of the server's clock, which says {now:.0f}: in "
            "Python time.time() + 30, in a shell $(( $(date +%s) + 30 ))."
        )
    return seconds


def _seconds(value: Any) -> float | None:
    if isinstance(value, (bytes, bytearray, memoryview)):
        value = bytes(value).decode("ascii", "replace")
    if isinstance(value, str):
        found = _TIME.fullmatch(value)
        return None if found is None else float(found[1]) + float(found[2] or 0)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return value if abs(value) < 1e12 else None
    return None
