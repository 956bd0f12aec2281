"""A row of the results is the reply, whatever the model answers and however it is asked."""

from __future__ import annotations

import dataclasses
import io
import itertools
import json
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from d2serve.handlers.errors import ImageTooLarge
from d2serve.handlers.outputs.records import Detections, Outputs, PanopticSeg, Proposals, Segment
from d2serve.handlers.outputs.rle import encode_whole
from d2serve.handlers.replies.encoding import encode
from d2serve.handlers.replies.fields import FIELDS
from d2serve.handlers.replies.reply import Reply
from d2serve.handlers.requests.options import OPTIONS, RequestOptions
from d2serve.handlers.spec.extras import IMAGE, INSTANCE, Extra
from d2serve.handlers.spec.model_spec import ModelSpec, PanopticMerge
from d2serve.server.batch.columns import TYPES, schema_of
from d2serve.server.batch.rows import failed, reply_of, row_of
from tests.cli.small_archives import small_spec

INSTANCES = ("pred_boxes", "scores", "pred_classes")
EXTRAS = (
    Extra("attributes", INSTANCE, "Tensor", "float32", (2,)),
    Extra("rank", INSTANCE, "Tensor", "int64", ()),
    Extra("half", INSTANCE, "Tensor", "float16", ()),
    Extra("is.seen", IMAGE, "Tensor", "bool", (2, None)),
    Extra("image_score", IMAGE, "Tensor", "float32", ()),
    Extra("map", IMAGE, "Tensor", "float64", (None, 2)),
)
ALL = small_spec()
ALL = dataclasses.replace(
    ALL,
    outputs=(*INSTANCES, "pred_masks", "pred_keypoints", "sem_seg", *(e.output for e in EXTRAS)),
    class_names=("circle", 'a \\ " name'),
    stuff_class_names=("sky", "grass", "sea"),
    panoptic=PanopticMerge(0.5, 4096, 0.5),
    extras=EXTRAS,
)
PLAIN = dataclasses.replace(small_spec(), class_names=None)
PROPOSALS = dataclasses.replace(PLAIN, outputs=("proposal_boxes", "objectness_logits"))
ROTATED = dataclasses.replace(PLAIN, box_mode="XYWHA_ABS")

# Of every size that JSON writes in another way, as a float32 and as a float64.
FLOATS = np.array([0.1, 33.3, 0, 1e-5, 1.2e-6, 7e-10, 1e14, 3e15, 1e20, -0.0], np.float32)


def detections(count: int, with_all: bool, angle: bool = False) -> Detections:
    random = np.random.default_rng(count)
    masks = random.random((count, 12, 16)) < 0.5
    extra = {
        "attributes": np.resize(np.array([np.nan, np.inf, *FLOATS], np.float32), (count, 2)),
        "rank": np.arange(count) - 2**62,
        "half": np.resize(FLOATS[:6], count).astype(np.float16),
    }
    return Detections(
        height=12,
        width=16,
        boxes=np.resize(FLOATS, (count, 5 if angle else 4)),
        scores=np.resize(FLOATS, count),
        classes=np.arange(count) % 2,
        masks=encode_whole(masks) if with_all else None,
        keypoints=np.resize(FLOATS, (count, 3, 3)) if with_all else None,
        extra=extra if with_all else {},
    )


def everything(count: int) -> Outputs:
    labels = (np.arange(12 * 16, dtype=np.int32).reshape(12, 16) // 40) % 3
    things = Segment(1, 1, True, 90, 1.2e-6, 0)
    stuff = Segment(2, 2, False, 100, None, None, 7)
    own = {
        "is.seen": np.array([[True], [False]]),
        "image_score": np.array(1e-5, np.float32),
        "map": np.array([[-np.inf, 1e14], [1.2e-6, 0.1]]),
    }
    panoptic = PanopticSeg(labels, (things, stuff))
    return Outputs(12, 16, detections(count, True), labels, panoptic, None, own)


def table_of(rows: list[dict[str, Any]], spec: ModelSpec, options: dict[str, Any]) -> Any:
    """As it is read from the file."""
    file = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, schema_of(spec, options)), file)
    return pq.read_table(file)


def through_a_file(
    outputs: Outputs, spec: ModelSpec, converted: str | None = None, **options: Any
) -> dict[str, Any]:
    """The row, after it was seen to give the same reply."""
    asked = RequestOptions.parse(options, spec)
    body = encode(outputs, spec, spec.name, "2.0", asked, converted=converted)
    (row,) = table_of([row_of("a.jpg", Reply(body))], spec, options).to_pylist()
    assert reply_of(row, spec, "2.0", options) == body
    said: dict[str, Any] = row
    return said


@pytest.mark.parametrize("count", [0, 1, 20])
@pytest.mark.parametrize(
    ("masks", "sem_seg", "extra"),
    list(itertools.product(("rle", "polygon"), ("png", "rle"), ("json", "base64", "none"))),
)
def test_all_that_a_model_can_answer(count: int, masks: str, sem_seg: str, extra: str) -> None:
    row = through_a_file(
        everything(count), ALL, "16-bit to 8-bit", masks=masks, sem_seg=sem_seg, extra=extra
    )
    assert (row["path"], row["height"], row["width"], row["error"]) == ("a.jpg", 12, 16, None)
    assert len(row["instances"]) == count
    assert row["sem_seg"]["classes"][0]["category_name"] == "sky"


def test_boxes_alone_rotated_ones_and_proposals() -> None:
    row = through_a_file(Outputs(12, 16, detections(3, False), None, None, None), PLAIN)
    assert sorted(row["instances"][0]) == ["bbox", "bbox_mode", "category_id", "score"]
    through_a_file(Outputs(12, 16, detections(3, False, angle=True), None, None, None), ROTATED)
    proposals = Proposals(np.resize(FLOATS, (4, 4)), FLOATS[:4])
    row = through_a_file(Outputs(12, 16, None, None, None, proposals), PROPOSALS)
    assert len(row["proposals"]) == 4
    assert "instances" not in row


def test_what_is_not_asked_for_has_no_column() -> None:
    columns = {str(schema_of(ALL, options)) for options in ({}, {"masks": "rle", "extra": "json"})}
    assert len(columns) == 1, "the defaults are the same as nothing"
    without = schema_of(ALL, {"masks": "none", "extra": "none"})
    assert "segmentation" not in str(without)
    assert "extra" not in str(without)


def test_every_field_of_a_reply_has_a_type() -> None:
    assert list(TYPES) == [field.name for field in FIELDS]


def test_every_option_of_words_has_been_looked_at() -> None:
    """A new word may need a column of another type, in columns.py."""
    words = {each.name: sorted(each.choices) for each in OPTIONS if each.choices}
    assert words == {
        "masks": ["none", "polygon", "rle"],
        "sem_seg": ["png", "rle"],
        "extra": ["base64", "json", "none"],
        "draw": ["jpeg", "png"],  # which no row has
    }


def test_an_image_that_failed() -> None:
    error = {"error": {"code": "image_too_large", "message": "4 GB"}}
    reply = Reply(json.dumps(error).encode(), code=ImageTooLarge.code, status=413, message="4 GB")
    (row,) = table_of([row_of("a.jpg", reply)], ALL, {}).to_pylist()
    said = {name: value for name, value in row.items() if value is not None}
    assert said == {"path": "a.jpg", "error_code": "image_too_large", "error": "4 GB"}


def test_a_name_that_is_no_text() -> None:
    assert failed("caf\udce9.jpg", "x", "y")["path"] == "caf\\udce9.jpg"


def test_a_picture_that_a_file_asks_for_itself() -> None:
    row = row_of("a.jpg", Reply(b"\x89PNG", content_type="image/png"))
    assert row["error_code"] == "invalid_image"
