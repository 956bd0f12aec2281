"""Reading replies: what is of version 1 is read exactly, all else is one clear error."""

from __future__ import annotations

import copy
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from d2serve.client.errors import MalformedReply
from d2serve.client.results.prediction import Proposal, RunLengthMask, parse_prediction

REPLY: dict[str, Any] = {
    "model": "shapes",
    "version": "1.0",
    "image": {"height": 4, "width": 6},
    "instances": [
        {
            "bbox": [0.5, 1, 2.5, 3.5],
            "bbox_mode": "XYXY_ABS",
            "score": 0.98,
            "category_id": 2,
            "category_name": "circle",
            "segmentation": {"size": [4, 6], "counts": "52225"},
            "keypoints": [[1, 2.5, 0.9], [3, 3, 0.1]],
        },
        {"bbox": [0, 0, 1, 1], "bbox_mode": "XYXY_ABS", "score": 0.5, "category_id": 0},
    ],
}

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


def test_every_field_is_read() -> None:
    prediction = parse_prediction(json.dumps(REPLY).encode())
    assert (prediction.model, prediction.version) == ("shapes", "1.0")
    assert (prediction.height, prediction.width) == (4, 6)
    assert prediction.raw == REPLY
    assert prediction.has_instances
    others = (prediction.proposals, prediction.sem_seg, prediction.panoptic_seg)
    assert others == (None, None, None)
    full, sparse = prediction.instances
    assert full.bbox == (0.5, 1.0, 2.5, 3.5)
    assert (full.bbox_mode, full.score, full.category_id) == ("XYXY_ABS", 0.98, 2)
    assert full.label() == "circle"
    assert full.segmentation == RunLengthMask(4, 6, "52225")
    assert full.keypoints == ((1.0, 2.5, 0.9), (3.0, 3.0, 0.1))
    assert (sparse.category_name, sparse.segmentation, sparse.keypoints) == (None, None, None)
    assert sparse.label() == "category 0"
    with pytest.raises(ValueError, match="has no mask"):
        sparse.mask()


def test_unknown_fields_are_kept_and_do_no_harm() -> None:
    prediction = parse_prediction({**REPLY, "timings": {"decode": 1.5}})
    assert prediction.raw["timings"] == {"decode": 1.5}
    assert prediction == parse_prediction(REPLY)


@given(
    hnp.arrays(
        dtype=np.bool_,
        shape=hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=40),
    )
)
def test_masks_survive_the_way(mask: NDArray[np.bool_]) -> None:
    encoded = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    height, width = mask.shape
    reply = {**copy.deepcopy(REPLY), "image": {"height": height, "width": width}}
    reply["instances"][0]["segmentation"] = {
        "size": [height, width],
        "counts": encoded["counts"].decode("ascii"),
    }
    instance = parse_prediction(json.dumps(reply)).instances[0]
    assert instance.mask().dtype == np.bool_
    np.testing.assert_array_equal(instance.mask(), mask)
    assert instance.segmentation is not None
    assert instance.segmentation.area() == mask.sum()


def test_a_mask_that_cannot_be_decoded_is_a_malformed_reply() -> None:
    with pytest.raises(MalformedReply, match="run lengths"):
        RunLengthMask(4, 6, "zzzz").decode()


@pytest.mark.parametrize("path", ["model", "version", "image", "image.height", "instances"])
def test_a_missing_field_is_named(path: str) -> None:
    reply = copy.deepcopy(REPLY)
    *parents, name = path.split(".")
    holder = reply
    for parent in parents:
        holder = holder[parent]
    del holder[name]
    with pytest.raises(MalformedReply, match=f"'{name}' is missing"):
        parse_prediction(reply)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("bbox", [1, 2, 3]),
        ("bbox", [1, 2, 3, "4"]),
        ("bbox", None),
        ("score", "high"),
        ("score", True),
        ("category_id", 1.5),
        ("category_name", 7),
        ("segmentation", {"size": [4], "counts": "5"}),
        ("segmentation", {"size": [4, -6], "counts": "5"}),
        ("segmentation", {"size": [6, 4], "counts": "5"}),
        ("bbox_mode", "XYWH_ABS"),
        ("bbox_mode", "XYWHA_ABS"),
        ("segmentation", {"size": [4, 6], "counts": "é"}),
        ("keypoints", [[1, 2]]),
    ],
)
def test_a_field_of_the_wrong_kind_is_refused(field: str, value: object) -> None:
    reply = copy.deepcopy(REPLY)
    reply["instances"][0][field] = value
    with pytest.raises(MalformedReply, match="version 1"):
        parse_prediction(reply)


def test_boxes_of_one_model_are_of_one_kind() -> None:
    reply = copy.deepcopy(REPLY)
    reply["instances"][1].update(bbox=[2, 2, 3, 1, 45.0], bbox_mode="XYWHA_ABS")
    with pytest.raises(MalformedReply, match="'bbox_mode' differs"):
        parse_prediction(reply)
    (rotated,) = parse_prediction({**reply, "instances": reply["instances"][1:]}).instances
    assert (rotated.bbox, rotated.bbox_mode) == ((2.0, 2.0, 3.0, 1.0, 45.0), "XYWHA_ABS")


def test_proposals_stand_alone() -> None:
    boxes = [{"bbox": [0, 1, 2, 3], "bbox_mode": "XYXY_ABS", "objectness_logit": -3.5}]
    sent = {name: value for name, value in REPLY.items() if name != "instances"}
    prediction = parse_prediction({**sent, "proposals": boxes})
    assert (prediction.has_instances, prediction.instances) == (False, ())
    assert prediction.proposals == (Proposal((0.0, 1.0, 2.0, 3.0), "XYXY_ABS", -3.5),)
    with pytest.raises(MalformedReply, match="'objectness_logit' is missing"):
        parse_prediction({**sent, "proposals": REPLY["instances"][1:]})


@given(JSON_VALUES)
def test_any_other_json_is_a_malformed_reply(value: object) -> None:
    with pytest.raises(MalformedReply):
        parse_prediction(json.dumps(value))


@pytest.mark.parametrize("body", [b"", b"Healthy", b"\xff\xfe", b'{"model": '])
def test_what_is_no_json_is_a_malformed_reply(body: bytes) -> None:
    with pytest.raises(MalformedReply, match="not JSON"):
        parse_prediction(body)
