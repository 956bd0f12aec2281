"""From a reply to a row of the results, and back to the same bytes."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import orjson

from d2serve.handlers.errors import InvalidImage
from d2serve.handlers.replies.reply import JSON, OK, Reply
from d2serve.handlers.requests.options import NONE
from d2serve.handlers.spec.model_spec import ModelSpec
from d2serve.server.batch.columns import (
    CONVERTED,
    ERROR,
    ERROR_CODE,
    HEIGHT,
    PATH,
    WIDTH,
    Options,
)

Row = dict[str, Any]
_TEXTS = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
"""For numbers that JSON has not: ``handlers/replies/extras.py``."""


def row_of(name: str, reply: Reply) -> Row:
    """The row of an image.

    Args:
        name: the image's.
        reply: the service's to it.
    """
    if reply.code != OK:
        return failed(name, reply.code, reply.message)
    if reply.content_type != JSON:  # a file with a request of its own in it, which asks for one
        return failed(name, InvalidImage.code, f"Got {reply.content_type}, expected an answer.")
    said = orjson.loads(reply.body)
    image = said.pop("image")
    for each in (said, *said.get("instances", ())):
        if "extra" in each:
            each["extra"] = _as_numbers(each["extra"])
    return {PATH: shown(name), **image, **said}


def failed(name: str, code: str, message: str) -> Row:
    """The row of an image that has no answer."""
    return {PATH: shown(name), ERROR_CODE: code, ERROR: message}


def shown(name: str) -> str:
    """A name as the results have it: one that is no text has its bytes escaped."""
    return name.encode("utf-8", "backslashreplace").decode()


def reply_of(row: Row, spec: ModelSpec, version: str, options: Options) -> bytes:
    """The JSON that the service gave for this row, byte for byte, without a request's id.

    Args:
        row: of an image that was answered, as ``pyarrow.Table.to_pylist`` has it.
        spec, version: the archive's.
        options: with which it was asked.
    """
    doubles = {each.name for each in spec.extras if each.dtype == "float64"}
    image = {HEIGHT: row[HEIGHT], WIDTH: row[WIDTH], CONVERTED: row[CONVERTED]}
    answered = {name: value for name, value in row.items() if name not in (*image, PATH)}
    fields = {"model": spec.name, "version": version, "image": image, **answered}
    own = spec.extras and options.get("extra") != NONE
    about = {"extra_fields": [asdict(each) for each in spec.extras]} if own else {}
    said = {**_given(fields, doubles), **about}
    return orjson.dumps(said, option=orjson.OPT_SERIALIZE_NUMPY)


def _given(value: Any, doubles: Collection[str], kind: type = np.float32) -> Any:
    """Without what is null, which a reply leaves out, and with numbers of the type that it had:
    JSON writes some of a float32, such as 0.000002, not as it writes those of a float64."""
    if isinstance(value, Mapping):
        kept = {name: each for name, each in value.items() if each is not None}
        own = {name: _extras(kept[name], doubles) for name in kept if name == "extra"}
        return {name: own.get(name, _given(each, doubles, kind)) for name, each in kept.items()}
    if isinstance(value, list):
        return [_given(each, doubles, kind) for each in value]
    if isinstance(value, float):
        texts = {math.inf: "Infinity", -math.inf: "-Infinity"}
        return "NaN" if math.isnan(value) else texts.get(value, kind(value))
    return value


def _extras(values: Mapping[str, Any], doubles: Collection[str]) -> dict[str, Any]:
    return {
        name: _given(each, (), float if name in doubles else np.float32)
        for name, each in values.items()
    }


def _as_numbers(value: Any) -> Any:
    if isinstance(value, dict) and "base64" not in value:
        return {name: _as_numbers(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_as_numbers(each) for each in value]
    return _TEXTS.get(value, value) if isinstance(value, str) else value
