"""Results as tables, one row for each thing found, for pandas and pyarrow.

Columns have the names of the reply, and their types are the same however many rows there are, so
that the tables of many images can be put together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from d2serve.client.results.extras import as_array
from d2serve.client.results.instances import XYWHA, Box, Instance, Proposal, have_all
from d2serve.client.results.packages import load
from d2serve.client.results.polygon_masks import PolygonMask
from d2serve.client.results.segments import PanopticSeg, SemSeg
from d2serve.handlers.spec.extras import INSTANCE, Extra

_CORNERS = ("x0", "y0", "x1", "y1")
_ROTATED = ("cx", "cy", "w", "h", "angle")
_FLOAT, _INT, _TEXT, _BOOL = "float64", "int64", "string", "bool"
_RLE = "rle"
_ADVICE = "Install {}; without it, the prediction's own fields hold the same: instances, sem_seg, …"

INSTANCES, PROPOSALS, SEM_SEG, PANOPTIC_SEG = KINDS = (
    "instances",
    "proposals",
    "sem_seg",
    "panoptic_seg",
)


@dataclass(frozen=True)
class Found:
    """What makes one table."""

    kind: str
    """One of ``KINDS``."""
    instances: Sequence[Instance] = ()
    proposals: Sequence[Proposal] = ()
    sem_seg: SemSeg | None = None
    panoptic_seg: PanopticSeg | None = None


@dataclass(frozen=True)
class Column:
    """One column of a table."""

    name: str
    kind: str
    """A numpy type's name, ``"string"`` or ``"rle"``."""
    values: list[Any]
    nested: int = 0
    """Of lists of lists of that kind, how deep."""


def to_arrow(found: Found, fields: Sequence[Extra]) -> Any:
    """See Prediction.to_arrow."""
    arrow = load("pyarrow", "to_arrow() makes pyarrow's own Table", _ADVICE.format("pyarrow"))
    run_lengths = [("size", arrow.list_(arrow.int64())), ("counts", arrow.string())]

    def type_of(column: Column) -> Any:
        if column.kind == _RLE:
            made = arrow.struct(run_lengths)
        elif column.kind == _TEXT:
            made = arrow.string()
        else:
            made = arrow.from_numpy_dtype(column.kind)
        for _ in range(column.nested):
            made = arrow.list_(made)
        return made

    made = columns(found, fields)
    arrays = [arrow.array(each.values, type_of(each)) for each in made]
    return arrow.table(arrays, names=[each.name for each in made])


def to_pandas(found: Found, fields: Sequence[Extra]) -> Any:
    """See Prediction.to_pandas."""
    pandas = load("pandas", "to_pandas() makes pandas's own DataFrame", _ADVICE.format("pandas"))

    def series(column: Column) -> Any:
        plain = column.nested == 0 and column.kind not in (_RLE, _TEXT)
        return pandas.Series(column.values, dtype=column.kind if plain else object)

    return pandas.DataFrame({each.name: series(each) for each in columns(found, fields)})


def columns(found: Found, fields: Sequence[Extra]) -> list[Column]:
    """The columns of a table; ``fields`` are the reply's ``extra_fields``."""
    if found.sem_seg is not None:
        classes = found.sem_seg.classes
        return [*_named(classes), Column("area", _INT, [each.area for each in classes])]
    if found.panoptic_seg is not None:
        return _of_segments(found.panoptic_seg)
    if found.kind == PROPOSALS:
        logits = [each.objectness_logit for each in found.proposals]
        boxes = _numbers(_CORNERS, [each.bbox for each in found.proposals])
        return [*boxes, Column("objectness_logit", _FLOAT, logits)]
    return _of_instances(found.instances, fields)


def _of_instances(found: Sequence[Instance], fields: Sequence[Extra]) -> list[Column]:
    rotated = bool(found) and found[0].bbox_mode == XYWHA
    made = _numbers(_ROTATED if rotated else _CORNERS, [each.bbox for each in found])
    made += [Column("score", _FLOAT, [each.score for each in found]), *_named(found)]
    if have_all(found, "segmentation"):
        made.append(_masks(found))
    if have_all(found, "keypoints"):
        points = [[list(point) for point in each.keypoints or ()] for each in found]
        made.append(Column("keypoints", _FLOAT, points, nested=2))
    own = [each for each in fields if each.per == INSTANCE]
    return made + [_extra(field, [each.extra for each in found]) for field in own]


def _masks(found: Sequence[Instance]) -> Column:
    masks = [each.segmentation for each in found]
    if isinstance(masks[0], PolygonMask):
        outlines = [list(map(list, each.polygons or ())) for each in found]
        return Column("segmentation", _FLOAT, outlines, nested=2)
    return Column("segmentation", _RLE, [None if mask is None else mask.rle() for mask in masks])


def _extra(field: Extra, values: Sequence[Mapping[str, Any]]) -> Column:
    # Not by the bare name, which may be that of another column.
    name = f"extra.{field.name}"
    listed = [as_array(each[field.name], field).tolist() for each in values]
    return Column(name, field.dtype, listed, nested=len(field.shape))


def _of_segments(found: PanopticSeg) -> list[Column]:
    segments = found.segments_info
    return [
        Column("id", _INT, [each.id for each in segments]),
        *_named(segments),
        Column("isthing", _BOOL, [each.isthing for each in segments]),
        Column("area", _INT, [each.area for each in segments]),
        Column("score", _FLOAT, [each.score for each in segments]),
    ]


def _named(found: Sequence[Any]) -> list[Column]:
    return [
        Column("category_id", _INT, [each.category_id for each in found]),
        Column("category_name", _TEXT, [each.category_name for each in found]),
    ]


def _numbers(names: Sequence[str], boxes: Sequence[Box]) -> list[Column]:
    return [Column(name, _FLOAT, [box[i] for box in boxes]) for i, name in enumerate(names)]
