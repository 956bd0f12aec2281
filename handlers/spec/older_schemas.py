"""Reads a ``model_spec.json`` of an older schema: what a later one added had one value before."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from d2serve.handlers.spec.limits import DEFAULT_LIMITS
from d2serve.handlers.spec.sixteen_bit import OPENCV

_ADDED: Mapping[int, Mapping[str, Any]] = {
    3: {"provenance": None},
    4: {"channels": 3, "postprocessed": False, "sixteen_bit": OPENCV, "extras": []},
    5: {"detail_classes": None},
}
"""By the schema that added them, the fields of a spec and what an older archive has for each."""


def upgraded(raw: Mapping[str, Any], version: int) -> dict[str, Any]:
    """A spec of an older schema with what it lacks: nothing of it shapes an answer."""
    limits = raw.get("limits")
    if version < 3 and isinstance(limits, dict):  # there are more limits since
        raw = {**raw, "limits": {**asdict(DEFAULT_LIMITS), **limits}}
    provenance = raw.get("provenance")
    if version == 3 and isinstance(provenance, dict):  # it says where names come from since
        sources = {"class_names": None, "stuff_class_names": None}
        raw = {**raw, "provenance": {**sources, **provenance}}
    lacking = {
        name: value
        for schema, fields in _ADDED.items()
        if schema > version
        for name, value in fields.items()
    }
    return {**lacking, **raw}
