"""What a model answers beyond detectron2's own fields, as values of the types that detectron2 has.

A reply says them as JSON, which does not tell float32 from float64 nor the shape of what is empty;
its ``extra_fields`` does.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from d2serve.client.results.reply_fields import required, typed
from d2serve.handlers.spec.extras import DTYPES, INSTANCE, Extra, is_extra

Array = NDArray[np.generic]


def parse_extra_fields(value: Any) -> tuple[Extra, ...]:
    """``extra_fields`` of a reply."""
    fields = typed(value, list, "extra_fields")
    for each in fields:
        if not is_extra(each):
            raise ValueError(f"'extra_fields' holds {each!r}")
    return tuple(map(Extra.from_json, fields))


def parse_extra(item: Mapping[str, Any], fields: Sequence[Extra], per: str) -> dict[str, Any]:
    """``extra`` of a reply or of one of its instances: Python's numbers, and arrays.

    Args:
        item: the reply, or the instance.
        fields: the reply's.
        per: ``"instance"`` or ``"image"``.
    """
    own = [each for each in fields if each.per == per]
    values = required(item, "extra", dict) if own else {}
    missing = [each.name for each in own if each.name not in values]
    if missing:
        raise ValueError(f"'extra' lacks {missing[0]!r}")
    return {each.name: _parse(values[each.name], each) for each in own}


def stacked(fields: Sequence[Extra], values: Sequence[Mapping[str, Any]]) -> dict[str, Array]:
    """Fields of instances, (N, ...) each.

    Args:
        fields: the reply's.
        values: of each instance.
    """
    found = {}
    for field in fields:
        if field.per == INSTANCE:
            arrays = [as_array(each[field.name], field) for each in values]
            found[field.name] = np.stack(arrays) if arrays else _empty(field, 0)
    return found


def as_array(value: Any, field: Extra) -> Array:
    """A value of ``parse_extra`` as an array of its own type."""
    array: Array = np.asarray(value, field.dtype)
    return array


def _parse(value: Any, field: Extra) -> Any:
    if isinstance(value, Mapping):
        array = _unpacked(value, field)
    else:
        try:
            array = np.array(_numbers(value), field.dtype)
        except OverflowError as error:
            raise ValueError(f"{field.name!r} is no {field.dtype} ({error})") from error
        if not array.size:
            array = _empty(field)
    if not field.fits(array.shape):
        raise ValueError(
            f"{field.name!r} is of the shape {list(array.shape)}, not {list(field.shape)}"
        )
    return array if array.ndim else array.item()


def _numbers(value: Any) -> Any:
    """Lists with numbers for the texts of those that are infinite or none."""
    if isinstance(value, list):
        return [_numbers(each) for each in value]
    return float(value) if isinstance(value, str) else value


def _unpacked(value: Mapping[str, Any], field: Extra) -> Array:
    name = required(value, "dtype", str)
    if name not in DTYPES:
        raise ValueError(f"{field.name!r} is of the type {name!r}")
    shape = [int(typed(side, int, "shape")) for side in required(value, "shape", list)]
    data = base64.b64decode(required(value, "base64", str), validate=True)
    packed = np.frombuffer(data, np.dtype(name).newbyteorder("<")).reshape(shape)
    return packed.astype(field.dtype)


def _empty(field: Extra, *before: int) -> Array:
    return np.zeros((*before, *(side or 0 for side in field.shape)), field.dtype)
