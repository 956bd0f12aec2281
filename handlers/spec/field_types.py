"""The JSON type of each field of ``model_spec.json``.

A spec with a wrong type would otherwise fail at the first request, or change answers. Which values
make sense, and which of them together, is for ``ModelSpec`` to say.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from d2serve.handlers.spec.extras import is_extra
from d2serve.handlers.spec.limits import NAMES as LIMITS


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_whole(value: object) -> bool:
    return type(value) is int


def _is_number(value: object) -> bool:
    return type(value) in (int, float)


def _is_object(value: object) -> bool:
    return isinstance(value, dict)


def _is_texts(value: object) -> bool:
    return isinstance(value, list) and all(map(_is_text, value))


def _is_hashes(value: object) -> bool:
    return isinstance(value, dict) and all(map(_is_text, value.values()))


def _or_null(holds: Callable[[object], bool]) -> Callable[[object], bool]:
    return lambda value: value is None or holds(value)


_MERGE: Mapping[str, Callable[[object], bool]] = {
    "overlap_thresh": _is_number,
    "stuff_area_limit": _is_whole,
    "instances_confidence_thresh": _is_number,
}


def _is_record(value: object, fields: Mapping[str, Callable[[object], bool]]) -> bool:
    return (
        isinstance(value, dict)
        and value.keys() == fields.keys()
        and all(holds(value[name]) for name, holds in fields.items())
    )


def _is_merge(value: object) -> bool:
    return _is_record(value, _MERGE)


_PROVENANCE: Mapping[str, Callable[[object], bool]] = {
    "config": _is_text,
    "config_sha256": _is_text,
    "weights": _is_text,
    "weights_sha256": _is_text,
    "class_names": _or_null(_is_text),
    "stuff_class_names": _or_null(_is_text),
}


def _is_provenance(value: object) -> bool:
    return _is_record(value, _PROVENANCE)


def _is_extras(value: object) -> bool:
    return isinstance(value, list) and all(map(is_extra, value))


def _is_limits(value: object) -> bool:
    return (
        isinstance(value, dict)
        and value.keys() == set(LIMITS)
        and all(_is_number(each) for each in value.values())
    )


_EXPECTED: Mapping[str, tuple[Callable[[object], bool], tuple[str, ...]]] = {
    "a string": (
        _is_text,
        (
            *("name", "family", "method", "runtime", "precision", "program"),
            *("image_format", "box_mode", "sixteen_bit"),
        ),
    ),
    "a whole number": (
        _is_whole,
        ("min_size_test", "max_size_test", "size_divisibility", "channels"),
    ),
    "a whole number or null": (
        _or_null(_is_whole),
        ("detections_per_image", "detail_classes"),
    ),
    "a number": (_is_number, ("mask_threshold",)),
    "a number or null": (_or_null(_is_number), ("score_thresh", "nms_thresh")),
    "true or false": (lambda value: isinstance(value, bool), ("dynamic_batch", "postprocessed")),
    "an object": (_is_object, ("versions", "verification", "accuracy")),
    "an object of hashes by file name": (_is_hashes, ("sha256",)),
    "a list of strings": (_is_texts, ("outputs", "rewrites")),
    "a list of strings or null": (_or_null(_is_texts), ("class_names", "stuff_class_names")),
    f"null or an object of the numbers {', '.join(_MERGE)} (whole: stuff_area_limit)": (
        _or_null(_is_merge),
        ("panoptic",),
    ),
    f"null or an object of the strings {', '.join(_PROVENANCE)} (or null: those of names)": (
        _or_null(_is_provenance),
        ("provenance",),
    ),
    "a list of objects with name, per, kind, dtype and shape": (_is_extras, ("extras",)),
    f"an object of the numbers {', '.join(LIMITS)}": (_is_limits, ("limits",)),
}


def wrong_types(raw: Mapping[str, Any]) -> list[str]:
    """What is wrong with the JSON types of a spec that has all its fields, if anything.

    Args:
        raw: the parsed ``model_spec.json``.
    """
    return [
        f"{name} is {raw[name]!r}, expected {expected}"
        for expected, (holds, names) in _EXPECTED.items()
        for name in names
        if not holds(raw[name])
    ]
