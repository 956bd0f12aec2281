"""What the service hands back to an adapter: the reply, and what there is to log and measure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from d2serve.handlers.outputs.records import Outputs
from d2serve.handlers.requests.tracing import Trace
from d2serve.handlers.timing import ProgramCall

OK = "ok"
JSON = "application/json"


class Body(NamedTuple):
    """The body of a reply, before its size is checked."""

    content_type: str
    data: bytes
    contents: str
    """What it holds, in words."""
    headers: Mapping[str, str] = {}
    """Of HTTP, beside the content type."""


class Found(NamedTuple):
    """What was found in an image, in numbers."""

    height: int
    """Of the image as it was sent, in pixels."""
    width: int
    objects: int | None
    """Instances in the reply, or proposals; None where the model has neither."""

    @staticmethod
    def of(outputs: Outputs) -> Found:
        found = outputs.instances if outputs.instances is not None else outputs.proposals
        return Found(outputs.height, outputs.width, None if found is None else len(found))


@dataclass(frozen=True)
class Reply:
    """The reply to one request."""

    body: bytes
    content_type: str = JSON
    headers: Mapping[str, str] = field(default_factory=dict)
    """Of HTTP, beside the content type: where the JSON of an answer in binary ends."""
    status: int = 200
    """As in HTTP."""
    code: str = OK
    """``"ok"``, or that of the error."""
    request_id: str | None = None
    trace: Trace | None = None
    """The request's, for the log."""
    found: Found | None = None
    """None of errors and metadata."""
    message: str = ""
    """The error's."""
    call: ProgramCall | None = None
    """In which the program answered, the same for all images that shared it; None where it did not
    answer."""
    seconds: Mapping[str, float] = field(default_factory=dict)
    """That each step took, by its name in ``timing.STEPS``; of an error, what was done of them."""
