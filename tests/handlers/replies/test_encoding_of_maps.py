"""Maps, segments, proposals and rotated boxes in the reply; see test_encoding for the rest."""

from __future__ import annotations

import base64
import io
import json
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from d2serve.handlers.outputs.records import Detections, Outputs, PanopticSeg, Proposals, Segment
from d2serve.handlers.replies.encoding import contents_of, encode
from d2serve.handlers.requests.options import RequestOptions
from tests.handlers.answers import answer_with, found
from tests.handlers.samples import coco_rles, spec_with


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
    (instance,) = replied(answer_with(detections), box_mode="XYWHA_ABS")["instances"]
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
    reply = replied(answer_with(proposals=proposals))
    assert sorted(reply) == ["image", "model", "proposals", "version"]
    assert reply["proposals"] == expected[::step]


def test_sem_seg_as_one_map() -> None:
    reply = replied(answer_with(sem_seg=LABELS))
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
    sem_seg = replied(answer_with(sem_seg=LABELS), "rle")["sem_seg"]
    assert sorted(sem_seg) == ["classes", "size"]
    assert [each["area"] for each in sem_seg["classes"]] == [2, 3, 1]
    rles = [each["segmentation"] for each in sem_seg["classes"]]
    assert rles == coco_rles(np.stack([label == LABELS for label in (0, 2, 300)]))


def test_names_of_stuff() -> None:
    labels = np.array([[0, 2]], np.int32)
    names = ("things", "sky", "Gras △")
    for sem_seg in ("png", "rle"):
        reply = replied(answer_with(sem_seg=labels), sem_seg, stuff_class_names=names)
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
    outputs = answer_with(found([]), sem_seg=LABELS, panoptic_seg=PANOPTIC)
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
    segments = replied(answer_with(panoptic_seg=PANOPTIC))["panoptic_seg"]["segments_info"]
    assert [list(each) for each in segments] == [
        ["id", "category_id", "isthing", "area", "score", "instance_id"],
        ["id", "category_id", "isthing", "area"],
    ]


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"sem_seg": LABELS}, "a label map"),
        (
            {"proposals": Proposals(np.zeros((2, 4), np.float32), np.zeros(2, np.float32))},
            "2 proposals",
        ),
    ],
)
def test_what_a_reply_holds_in_words(fields: dict[str, Any], told: str) -> None:
    assert contents_of(answer_with(**fields)) == told
