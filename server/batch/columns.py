"""The columns of the results, which follow from what the archive's model answers.

A row is the reply to one image, with the fields of ``handlers/replies/fields.py`` under their own
names, so that nothing has to be learnt twice. Numbers with a point are float64: what JSON says of a
float32 is then there digit by digit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from d2serve.handlers.replies.fields import FIELDS
from d2serve.handlers.requests.options import BASE64, NONE, POLYGON, RLE
from d2serve.handlers.spec.extras import IMAGE, INSTANCE, Extra
from d2serve.handlers.spec.model_spec import ModelSpec

Options = Mapping[str, Any]
"""Of the requests, by name; those that are not there are as by default."""

PATH, ERROR_CODE, ERROR = "path", "error_code", "error"
HEIGHT, WIDTH, CONVERTED = "height", "width", "converted"

_ALWAYS = (
    pa.field(PATH, pa.string(), nullable=False),
    pa.field(ERROR_CODE, pa.string()),
    pa.field(ERROR, pa.string()),
    pa.field(HEIGHT, pa.int64()),
    pa.field(WIDTH, pa.int64()),
    pa.field(CONVERTED, pa.string()),
)
_INTEGERS, _NUMBERS = pa.list_(pa.int64()), pa.list_(pa.float64())
_RLE = pa.struct([("size", _INTEGERS), ("counts", pa.string())])
_POLYGONS = pa.list_(_INTEGERS)
_SEGMENT = pa.struct(
    [
        ("id", pa.int64()),
        ("category_id", pa.int64()),
        ("category_name", pa.string()),
        ("isthing", pa.bool_()),
        ("area", pa.int64()),
        ("score", pa.float64()),
        ("instance_id", pa.int64()),
        ("label", pa.int64()),
    ]
)
_PANOPTIC_SEG = pa.struct(
    [("size", _INTEGERS), ("png", pa.string()), ("segments_info", pa.list_(_SEGMENT))]
)


def schema_of(spec: ModelSpec, options: Options) -> Any:
    """The columns (a pyarrow.Schema) of the answers of this model to requests with these options.

    An image that fails has a path, an error_code and an error; all else is null.
    """
    columns: dict[str, Any] = {}
    for each in FIELDS:
        kind = TYPES[each.name](spec, options) if each.is_in(spec) else None
        if kind is None:
            continue
        listed, _, field = each.name.rpartition("[].")
        if listed:
            columns.setdefault(listed, []).append((field, kind))
        else:
            columns[field] = kind
    fields = [
        pa.field(name, pa.list_(pa.struct(kind)) if isinstance(kind, list) else kind)
        for name, kind in columns.items()
    ]
    return pa.schema([*_ALWAYS, *fields])


def _always(kind: Any) -> Callable[[ModelSpec, Options], Any]:
    return lambda _spec, _options: kind


def _segmentation(_: ModelSpec, options: Options) -> Any:
    masks = options.get("masks", RLE)
    return {RLE: _RLE, POLYGON: _POLYGONS}.get(masks)


def _sem_seg(_: ModelSpec, options: Options) -> Any:
    is_rle = options.get("sem_seg") == RLE
    classes = [
        ("category_id", pa.int64()),
        ("category_name", pa.string()),
        ("area", pa.int64()),
        *([("segmentation", _RLE)] if is_rle else []),
    ]
    png = [] if is_rle else [("png", pa.string())]
    return pa.struct([("size", _INTEGERS), *png, ("classes", pa.list_(pa.struct(classes)))])


def _extras(per: str) -> Callable[[ModelSpec, Options], Any]:
    def of(spec: ModelSpec, options: Options) -> Any:
        own = [(each.name, _extra(each, options)) for each in spec.extras if each.per == per]
        return pa.struct(own) if own and options.get("extra") != NONE else None

    return of


def _extra(extra: Extra, options: Options) -> Any:
    if options.get("extra") == BASE64 and extra.shape:
        return pa.struct([("dtype", pa.string()), ("shape", _INTEGERS), ("base64", pa.string())])
    kinds = {"b": pa.bool_(), "f": pa.float64()}
    kind = kinds.get(np.dtype(extra.dtype).kind, pa.int64())
    for _ in extra.shape:
        kind = pa.list_(kind)
    return kind


TYPES: Mapping[str, Callable[[ModelSpec, Options], Any]] = {
    "image": _always(None),  # height and width are columns
    "image.converted": _always(None),  # as well
    "instances[].bbox": _always(_NUMBERS),
    "instances[].bbox_mode": _always(pa.string()),
    "instances[].score": _always(pa.float64()),
    "instances[].category_id": _always(pa.int64()),
    "instances[].category_name": _always(pa.string()),
    "instances[].segmentation": _segmentation,
    "instances[].keypoints": _always(pa.list_(_NUMBERS)),
    "instances[].extra": _extras(INSTANCE),
    "proposals[].bbox": _always(_NUMBERS),
    "proposals[].bbox_mode": _always(pa.string()),
    "proposals[].objectness_logit": _always(pa.float64()),
    "sem_seg": _sem_seg,
    "panoptic_seg": _always(_PANOPTIC_SEG),
    "extra": _extras(IMAGE),
    "extra_fields": _always(None),  # the same for all images: of the archive's spec
}
"""The type of each of ``FIELDS``; None is no column."""
