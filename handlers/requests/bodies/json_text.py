"""Parses bodies that are JSON, whatever their content type says.

KServe's clients send JSON without a content type, and binary contents behind it with a header that
says where the JSON ends; browsers send it as text. Servers hand it over as bytes, text or parsed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import orjson

from d2serve.handlers.errors import InvalidOption
from d2serve.handlers.requests.bodies.content_types import JSON, content_type

LENGTH_HEADER = "inference-header-content-length"

_OBJECT = re.compile(rb"\s*\{")
_OTHER = re.compile(rb"\s*[\[\"\dtfn-]")
_NOTHING = memoryview(b"")
# A request has fewer names and objects than this. Of more names, all are looked at; more objects
# would take seconds, and no request that is answered has them.
_MOST_NAMES, _MOST_OBJECTS = 50, 10_000


def parsed(body: Any, headers: Mapping[str, str]) -> tuple[Any, memoryview]:
    """The body, parsed where it is JSON, and the binary contents behind it.

    An object is known by its first letter; another value, which is no request, only by the content
    type. What is no valid JSON is left as it came.
    """
    if isinstance(body, str) and body.lstrip().startswith("{"):
        body = body.encode("utf-8", "replace")
    if not isinstance(body, (bytes, bytearray)):
        return body, _NOTHING
    if not _OBJECT.match(body) and not (_OTHER.match(body) and content_type(headers) == JSON):
        return body, _NOTHING
    end = _length(body, headers)
    text, rest = memoryview(body)[:end], memoryview(body)[end:]
    try:
        return orjson.loads(text), rest
    except ValueError:
        if content_type(headers) != JSON:
            return body, _NOTHING
    try:  # Python takes more, such as NaN and halves of characters: what is wrong there is told
        return json.loads(bytes(text).decode("utf-8")), rest
    except (ValueError, RecursionError):
        return body, _NOTHING


def check_names(body: Any, sent: Any, headers: Mapping[str, str]) -> None:
    """Refuse a JSON object that says one thing twice, of which parsers keep the last.

    Args:
        body: parsed.
        sent: as it came; only of what came as bytes or text it can be known.
        headers: of the request.

    Raises:
        InvalidOption: a name is there twice in one object.
    """
    if isinstance(sent, str):
        sent = sent.encode("utf-8", "replace")
    if not isinstance(body, Mapping) or not isinstance(sent, (bytes, bytearray)):
        return
    end, further = _length(sent, headers), body.get("parameters")
    names = [*body, *(further if isinstance(further, Mapping) else ())]
    # Pixels and base64 have no names: looking for a few names is quicker than parsing again.
    quoted = (json.dumps(name, ensure_ascii=False).encode("utf-8", "replace") for name in names)
    if len(names) <= _MOST_NAMES and all(sent.count(each, 0, end) == 1 for each in quoted):
        return
    if sent.count(b"{", 0, end) > _MOST_OBJECTS:
        return
    try:
        json.loads(bytes(memoryview(sent)[:end]), object_pairs_hook=_checked)
    except (ValueError, RecursionError):  # it has been parsed, which decides
        return


def _checked(pairs: list[tuple[str, Any]]) -> None:
    names = set[str]()
    for name, _ in pairs:
        if name in names:
            raise InvalidOption(
                f"Got {name[:40]!a} twice in one JSON object, expected it once: which of them "
                "counts is not said."
            )
        names.add(name)


def _length(body: bytes | bytearray, headers: Mapping[str, str]) -> int:
    lengths = [value for name, value in headers.items() if name.lower() == LENGTH_HEADER]
    return int(lengths[0]) if lengths and _is_length(lengths[0]) else len(body)


def _is_length(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 9
