"""What a request's header says that its body is. Senders often say nothing, or another thing."""

from __future__ import annotations

from collections.abc import Mapping

FORM = "application/x-www-form-urlencoded"
"""What curl says of every body of which it is not told what it is."""
MULTIPART = "multipart/form-data"
JSON = "application/json"


def content_type(headers: Mapping[str, str]) -> str:
    """The value of ``Content-Type``, in small letters and without parameters; empty without it."""
    found = (value for name, value in headers.items() if name.lower() == "content-type")
    return next(found, "").split(";")[0].strip().lower()
