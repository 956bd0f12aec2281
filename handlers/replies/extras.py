"""Writes what a model answers beyond detectron2's own fields as JSON, or arrays as base64.

JSON has no number that is infinite or none. Such a one is a text, as protobuf's JSON has it:
``"NaN"``, ``"Infinity"`` or ``"-Infinity"``, which Python's ``float`` and JavaScript's ``Number``
read.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt

from d2serve.handlers.outputs.records import Extras
from d2serve.handlers.requests.options import BASE64, NONE, RequestOptions
from d2serve.handlers.spec.model_spec import ModelSpec

Values = npt.NDArray[np.generic]


def extra_of_image(found: Extras, options: RequestOptions) -> dict[str, Any]:
    """The reply's ``extra``, or nothing where there is none or it is not asked for."""
    if not found or options.extra == NONE:
        return {}
    return {"extra": {name: _value(values, options) for name, values in found.items()}}


def extra_of_instance(found: Extras, index: int, options: RequestOptions) -> dict[str, Any]:
    """The same of one instance."""
    if not found or options.extra == NONE:
        return {}
    values = ((name, np.asarray(of_all[index])) for name, of_all in found.items())
    return {"extra": {name: _value(each, options) for name, each in values}}


def extra_fields(spec: ModelSpec, options: RequestOptions) -> Mapping[str, Any]:
    """The reply's ``extra_fields``: type and shape of each, of which numbers do not tell."""
    if not spec.extras or options.extra == NONE:
        return {}
    return {"extra_fields": [asdict(each) for each in spec.extras]}


def _value(values: Values, options: RequestOptions) -> Any:
    if values.dtype == np.float16:  # which not every reader has; float32 holds it exactly
        values = values.astype(np.float32)
    if options.extra == BASE64 and values.ndim:
        return _packed(values)
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        return _with_texts(values)
    if values.ndim:
        return np.ascontiguousarray(values)
    # As short as it can be; a whole number may be of a type of numpy's that orjson does not know.
    return values[()] if values.dtype == np.float32 else values.item()


def _packed(values: Values) -> dict[str, Any]:
    little = values.astype(values.dtype.newbyteorder("<"), copy=False)
    return {
        "dtype": values.dtype.name,
        "shape": list(values.shape),
        "base64": base64.b64encode(little.tobytes()).decode("ascii"),
    }


def _with_texts(values: Values) -> Any:
    if values.ndim:
        return [_with_texts(each) for each in map(np.asarray, values)]
    number: Any = values[()]
    if np.isnan(number):
        return "NaN"
    if np.isinf(number):
        return "Infinity" if number > 0 else "-Infinity"
    return number
