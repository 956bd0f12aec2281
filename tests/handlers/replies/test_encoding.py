"""The reply is the response format of docs, version 1, and loses no bit of a number."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from d2serve.handlers.errors import (
    DeadlineExceeded,
    EmptyRequest,
    ImageTooLarge,
    ImageTooSlow,
    InvalidImage,
    InvalidOption,
    ModelFailed,
    ReplyTooLarge,
    RequestError,
    UnsupportedImageFormat,
)
from d2serve.handlers.outputs.records import Detections
from d2serve.handlers.outputs.rle import Rle
from d2serve.handlers.replies.encoding import contents_of, encode, encode_error
from tests.handlers.answers import answer_with, found
from tests.handlers.samples import bits, cases, coco_rles, spec_with

floats = st.floats(allow_nan=False, allow_infinity=False, width=32)


def reply_to(detections: Detections, **spec: Any) -> dict[str, Any]:
    encoded = encode(answer_with(detections), spec_with(**spec), "shapes", "1.0")
    reply: dict[str, Any] = json.loads(encoded)
    return reply


def test_the_whole_reply() -> None:
    rles: tuple[Rle, ...] = ({"size": [480, 640], "counts": "abc"},)
    keypoints = np.array([[[1, 2, 0.5], [3, 4, 0.25]]], np.float32)
    detections = found([[0, 1.5, 2.25, 640]], rles, keypoints)
    assert reply_to(detections, class_names=("circle",)) == {
        "model": "shapes",
        "version": "1.0",
        "image": {"height": 480, "width": 640},
        "instances": [
            {
                "bbox": [0.0, 1.5, 2.25, 640.0],
                "bbox_mode": "XYXY_ABS",
                "score": pytest.approx(0.9),
                "category_id": 0,
                "category_name": "circle",
                "segmentation": {"size": [480, 640], "counts": "abc"},
                "keypoints": [[1.0, 2.0, 0.5], [3.0, 4.0, 0.25]],
            }
        ],
    }


def test_fields_that_the_model_has_not_are_absent() -> None:
    (instance,) = reply_to(found([[0, 0, 1, 1]]))["instances"]
    assert sorted(instance) == ["bbox", "bbox_mode", "category_id", "score"]


def test_class_names_are_those_of_the_classes() -> None:
    names = ("circle", "rectangle", "Dreieck △")
    instances = reply_to(found([[0, 0, 1, 1]] * 3), class_names=names)["instances"]
    assert [each["category_name"] for each in instances] == list(names)
    assert [each["category_id"] for each in instances] == [0, 1, 2]


def test_no_instances() -> None:
    nothing = found([], masks=(), keypoints=np.zeros((0, 17, 3), np.float32))
    assert reply_to(nothing)["instances"] == []


@cases(200)
@given(st.lists(st.tuples(floats, floats, floats, floats), min_size=1, max_size=5), floats)
def test_floats_survive_bit_for_bit(
    boxes: list[tuple[float, float, float, float]], place: float
) -> None:
    keypoints = np.full((len(boxes), 2, 3), place, np.float32)
    detections = found([list(box) for box in boxes], keypoints=keypoints)
    instances = reply_to(detections)["instances"]
    assert bits([each["bbox"] for each in instances]) == bits(detections.boxes)
    assert bits([each["score"] for each in instances]) == bits(detections.scores)
    assert bits([each["keypoints"] for each in instances]) == bits(keypoints)


def test_numbers_are_written_as_short_as_float32_permits() -> None:
    detections = found([[0.1, 0.2, 0.3, 33.3]])
    assert b"[0.1,0.2,0.3,33.3]" in encode(answer_with(detections), spec_with(), "shapes", "1.0")


@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_in_any_memory_order(order: Any) -> None:
    boxes = np.asarray(np.arange(8, dtype=np.float32).reshape(2, 4), order=order)
    keypoints = np.asarray(np.arange(12, dtype=np.float32).reshape(2, 2, 3), order=order)
    detections = found(boxes.tolist())
    detections = Detections(
        480, 640, boxes[::-1], detections.scores, detections.classes, None, keypoints[::-1]
    )
    instances = reply_to(detections)["instances"]
    assert [each["bbox"] for each in instances] == boxes[::-1].tolist()
    assert [each["keypoints"] for each in instances] == keypoints[::-1].tolist()


@cases(200)
@given(hnp.arrays(np.bool_, st.tuples(st.just(3), st.integers(1, 40), st.integers(1, 40))))
def test_masks_survive(masks: NDArray[np.bool_]) -> None:
    """COCO's characters include the backslash, which JSON escapes."""
    rles = tuple(Rle(size=rle["size"], counts=rle["counts"]) for rle in coco_rles(masks))
    instances = reply_to(found([[0, 0, 1, 1]] * 3, rles))["instances"]
    decoded = coco_mask.decode([each["segmentation"] for each in instances])
    np.testing.assert_array_equal(decoded.transpose(2, 0, 1), masks)


def test_what_a_reply_holds_in_words() -> None:
    assert contents_of(answer_with(found([[0, 0, 1, 1]] * 3))) == "3 instances"


@pytest.mark.parametrize(
    ("kind", "status", "code"),
    [
        (EmptyRequest, 400, "empty_request"),
        (InvalidImage, 400, "invalid_image"),
        (InvalidOption, 400, "invalid_option"),
        (UnsupportedImageFormat, 415, "unsupported_image_format"),
        (ImageTooLarge, 413, "image_too_large"),
        (ImageTooSlow, 413, "image_too_slow"),
        (ReplyTooLarge, 413, "reply_too_large"),
        (DeadlineExceeded, 504, "deadline_exceeded"),
        (ModelFailed, 500, "model_failed"),
    ],
)
def test_the_error_envelope(kind: type[RequestError], status: int, code: str) -> None:
    message = 'Got "42"\nand – that'
    assert json.loads(encode_error(kind(message))) == {"error": {"code": code, "message": message}}
    assert kind.status == status


def test_the_table_of_errors_above_is_whole() -> None:
    assert len(RequestError.__subclasses__()) == 9
