"""What stands before the body of a request: its path, its options and who asks."""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from d2serve.handlers.errors import InvalidOption
from d2serve.handlers.requests.fields import add_option

Scope = MutableMapping[str, Any]
"""Of ASGI: what a server knows of a request."""

ID_HEADER = "x-request-id"
SAGEMAKER_OPTIONS = "x-amzn-sagemaker-custom-attributes"
"""The only header of a client's own that SageMaker passes on. It has options as a query has them:
``score_thresh=0.5&masks=none``."""

_ID = re.compile(r"[A-Za-z0-9_.-]{1,128}")
"""What may stand in a log."""
_MOST_OPTIONS = 100


@dataclass(frozen=True)
class Head:
    """The head of a request of HTTP."""

    method: str
    path: str
    headers: Mapping[str, str]
    """By name in small letters; those that came twice are joined by a comma, as HTTP has it."""
    query: str
    request_id: str
    """The client's, where it named one that may stand in a log; otherwise a new one."""

    @staticmethod
    def of(scope: Scope) -> Head:
        headers: dict[str, str] = {}
        for raw_name, raw_value in scope["headers"]:
            name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
        named = headers.get(ID_HEADER, "")
        return Head(
            method=scope["method"],
            path=_below(scope.get("root_path", ""), scope["path"]),
            headers=headers,
            query=scope.get("query_string", b"").decode("latin-1"),
            request_id=named if _ID.fullmatch(named) else str(uuid.uuid4()),
        )

    @property
    def length(self) -> int | None:
        """Bytes of the body, where its sender said how many."""
        said = self.headers.get("content-length", "")
        return int(said) if said.isascii() and said.isdigit() else None

    def options(self) -> dict[str, Any]:
        """Options of the query, and those that came by way of SageMaker.

        Raises:
            InvalidOption: one came twice, or there are far too many.
        """
        found: dict[str, Any] = {}
        for text in (self.query, self.headers.get(SAGEMAKER_OPTIONS, "")):
            try:
                pairs = parse_qsl(text, keep_blank_values=True, max_num_fields=_MOST_OPTIONS)
            except ValueError:
                raise InvalidOption(
                    f"Got more than {_MOST_OPTIONS} options, expected those that there are: "
                    "GET /v2/models/NAME lists them."
                ) from None
            for name, value in pairs:
                add_option(found, name, value)
        return found


def _below(root: str, path: str) -> str:
    root = root.rstrip("/")
    return path[len(root) :] if root and path.startswith(f"{root}/") else path
