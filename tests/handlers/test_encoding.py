"""The reply is the response format of docs, version 1, and loses no bit of a number."""

from __future__ import annotations

import base64
import io
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as coco_mask

from d2serve.handlers import encoding
from d2serve.handlers.detections import (
    Detections,
    Float32,
    Outputs,
    PanopticSeg,
    Proposals,
    Segment,
)
from d2serve.handlers.encoding import CONTENT_TYPE, MAX_REPLY_BYTES, encode, encode_error
from d2serve.handlers.errors import (
    EmptyRequest,
    ImageTooLarge,
    InvalidImage,
    InvalidOption,
    ModelFailed,
    ReplyTooLarge,
    RequestError,
    UnsupportedImageFormat,
)
from d2serve.handlers.options import RequestOptions
from d2serve.handlers.rle import Rle
from tests.handlers.samples import bits, cases, coco_rles, spec_with

floats = st.floats(allow_nan=False, allow_infinity=False, width=32)


def found(
    boxes: list[list[float]],
    masks: tuple[Rle, ...] | None = None,
    keypoints: Float32 | None = None,
) -> Detections:
    """Detections with falling scores and classes 0, 1, 2, ..."""
    count = len(boxes)
    return Detections(
        height=480,
        width=640,
        boxes=np.array(boxes, np.float32).reshape(count, 4),
        scores=np.linspace(0.9, 0.1, count, dtype=np.float32),
        classes=np.arange(count),
        masks=masks,
        keypoints=keypoints,
    )


def outputs_of(instances: Detections | None = None, **others: Any) -> Outputs:
    """Outputs of an image of the size of ``found``'s."""
    fields = {"sem_seg": None, "panoptic_seg": None, "proposals": None, **others}
    return Outputs(480, 640, instances, **fields)


def reply_to(detections: Detections, **spec: Any) -> dict[str, Any]:
    encoded = encode(outputs_of(detections), spec_with(**spec), "shapes", "1.0")
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
    assert b"[0.1,0.2,0.3,33.3]" in encode(outputs_of(detections), spec_with(), "shapes", "1.0")


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


def test_a_reply_that_would_end_the_worker_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    detections = found([[0, 0, 1, 1]] * 3)
    size = len(encode(outputs_of(detections), spec_with(), "shapes", "1.0"))
    monkeypatch.setattr(encoding, "MAX_REPLY_BYTES", size)
    assert len(encode(outputs_of(detections), spec_with(), "shapes", "1.0")) == size
    monkeypatch.setattr(encoding, "MAX_REPLY_BYTES", size - 1)
    with pytest.raises(ReplyTooLarge, match=f"{size:,} bytes for 3 instances") as caught:
        encode(outputs_of(detections), spec_with(), "shapes", "1.0")
    assert caught.value.status == 413


def test_the_limit_is_torchserves_default() -> None:
    assert MAX_REPLY_BYTES == 6_553_500
    assert CONTENT_TYPE == "application/json"


def replied(outputs: Outputs, sem_seg: str = "png", **spec: Any) -> dict[str, Any]:
    options = RequestOptions(sem_seg=sem_seg)
    reply: dict[str, Any] = json.loads(encode(outputs, spec_with(**spec), "shapes", "1.0", options))
    return reply


def picture_in(png: str) -> NDArray[Any]:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(png)), formats=["PNG"]))


LABELS = np.array([[0, 2, 2], [2, 0, 300]], np.int32)


def test_rotated_boxes() -> None:
    detections = Detections(
        480,
        640,
        np.array([[5, 6, 4, 2, -30]], np.float32),
        np.array([0.5], np.float32),
        np.array([1]),
        None,
        None,
    )
    (instance,) = reply_to(detections, box_mode="XYWHA_ABS")["instances"]
    assert instance["bbox"] == [5, 6, 4, 2, -30]
    assert instance["bbox_mode"] == "XYWHA_ABS"


@pytest.mark.parametrize("step", [1, -1])
def test_proposals(step: int) -> None:
    proposals = Proposals(
        np.array([[0, 1, 2, 3.5], [4, 5, 6, 7]], np.float32)[::step],
        np.array([3.2, -1.5], np.float32)[::step],
    )
    expected = [
        {"bbox": [0, 1, 2, 3.5], "bbox_mode": "XYXY_ABS", "objectness_logit": 3.2},
        {"bbox": [4, 5, 6, 7], "bbox_mode": "XYXY_ABS", "objectness_logit": -1.5},
    ]
    reply = replied(outputs_of(proposals=proposals))
    assert sorted(reply) == ["image", "model", "proposals", "version"]
    assert reply["proposals"] == expected[::step]


def test_sem_seg_as_one_map() -> None:
    reply = replied(outputs_of(sem_seg=LABELS))
    assert sorted(reply) == ["image", "model", "sem_seg", "version"]
    png = reply["sem_seg"].pop("png")
    np.testing.assert_array_equal(picture_in(png), LABELS)
    assert reply["sem_seg"] == {
        "size": [2, 3],
        "classes": [
            {"category_id": 0, "area": 2},
            {"category_id": 2, "area": 3},
            {"category_id": 300, "area": 1},
        ],
    }


def test_sem_seg_as_rles() -> None:
    sem_seg = replied(outputs_of(sem_seg=LABELS), "rle")["sem_seg"]
    assert sorted(sem_seg) == ["classes", "size"]
    assert [each["area"] for each in sem_seg["classes"]] == [2, 3, 1]
    rles = [each["segmentation"] for each in sem_seg["classes"]]
    assert rles == coco_rles(np.stack([label == LABELS for label in (0, 2, 300)]))


def test_names_of_stuff() -> None:
    labels = np.array([[0, 2]], np.int32)
    names = ("things", "sky", "Gras △")
    for sem_seg in ("png", "rle"):
        reply = replied(outputs_of(sem_seg=labels), sem_seg, stuff_class_names=names)
        found = [each["category_name"] for each in reply["sem_seg"]["classes"]]
        assert found == ["things", "Gras △"]


STUFF = ("things", "grass", "sky", *["other"] * 298)
PANOPTIC = PanopticSeg(
    np.array([[1, 1, 0], [2, 2, 2]], np.int32),
    (
        Segment(
            id=1, category_id=1, isthing=True, area=2, score=float(np.float32(0.9)), instance_id=0
        ),
        Segment(id=2, category_id=2, isthing=False, area=3, score=None, instance_id=None),
    ),
)


def test_panoptic_seg() -> None:
    outputs = outputs_of(found([]), sem_seg=LABELS, panoptic_seg=PANOPTIC)
    reply = replied(outputs, "rle", class_names=("circle", "square"), stuff_class_names=STUFF)
    assert sorted(reply) == ["image", "instances", "model", "panoptic_seg", "sem_seg", "version"]
    panoptic = reply["panoptic_seg"]
    np.testing.assert_array_equal(picture_in(panoptic.pop("png")), PANOPTIC.labels)
    assert panoptic == {
        "size": [2, 3],
        "segments_info": [
            {
                "id": 1,
                "category_id": 1,
                "category_name": "square",
                "isthing": True,
                "area": 2,
                "score": 0.9,
                "instance_id": 0,
            },
            {"id": 2, "category_id": 2, "category_name": "sky", "isthing": False, "area": 3},
        ],
    }


def test_a_panoptic_reply_without_names() -> None:
    segments = replied(outputs_of(panoptic_seg=PANOPTIC))["panoptic_seg"]["segments_info"]
    assert [list(each) for each in segments] == [
        ["id", "category_id", "isthing", "area", "score", "instance_id"],
        ["id", "category_id", "isthing", "area"],
    ]


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"sem_seg": LABELS}, "bytes for a label map, expected"),
        (
            {"proposals": Proposals(np.zeros((2, 4), np.float32), np.zeros(2, np.float32))},
            "bytes for 2 proposals, expected",
        ),
    ],
)
def test_replies_of_all_kinds_are_bounded(
    monkeypatch: pytest.MonkeyPatch, fields: dict[str, Any], told: str
) -> None:
    monkeypatch.setattr(encoding, "MAX_REPLY_BYTES", 9)
    with pytest.raises(ReplyTooLarge, match=told):
        replied(outputs_of(**fields))


@pytest.mark.parametrize(
    ("kind", "status", "code"),
    [
        (EmptyRequest, 400, "empty_request"),
        (InvalidImage, 400, "invalid_image"),
        (InvalidOption, 400, "invalid_option"),
        (UnsupportedImageFormat, 415, "unsupported_image_format"),
        (ImageTooLarge, 413, "image_too_large"),
        (ReplyTooLarge, 413, "reply_too_large"),
        (ModelFailed, 500, "model_failed"),
    ],
)
def test_the_error_envelope(kind: type[RequestError], status: int, code: str) -> None:
    message = 'Got "42"\nand – that'
    assert json.loads(encode_error(kind(message))) == {"error": {"code": code, "message": message}}
    assert kind.status == status


def test_the_table_of_errors_above_is_whole() -> None:
    assert len(RequestError.__subclasses__()) == 7
