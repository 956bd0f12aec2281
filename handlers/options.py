"""Why: a client may say beside its image how it wants the answer, and a slip there must be told.

An option is a multipart field or a gRPC input of its own. A field that is no option is left alone:
proxies and clients add some.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from d2serve.handlers.errors import InvalidOption

PNG, RLE = "png", "rle"


@dataclass(frozen=True)
class RequestOptions:
    """How one request is to be answered."""

    sem_seg: str = PNG
    """``"png"``: one label map; ``"rle"``: a COCO RLE for each class."""

    @staticmethod
    def parse(request: Mapping[str, Any]) -> RequestOptions:
        """The options among the fields of a request.

        Raises:
            InvalidOption: one has a value that it cannot have.
        """
        return RequestOptions(sem_seg=_one_of(request, "sem_seg", (PNG, RLE)))


DEFAULT_OPTIONS = RequestOptions()


def _one_of(request: Mapping[str, Any], name: str, allowed: tuple[str, ...]) -> str:
    """The value of an option, or the first of those allowed where it is not given."""
    value = request.get(name)
    if value is None:
        return allowed[0]
    if isinstance(value, (bytes, bytearray, memoryview)):
        value = bytes(value).decode("utf-8", errors="replace")
    if not isinstance(value, str) or value not in allowed:
        got = ascii(value)
        raise InvalidOption(
            f"Got the option {name}={got if len(got) <= 40 else got[:40] + '...'}, expected one of "
            f"{', '.join(allowed)}. Leave it out for {allowed[0]}."
        )
    return value
