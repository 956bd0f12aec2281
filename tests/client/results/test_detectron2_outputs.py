"""Back into detectron2's own structures, compared with what detectron2 itself makes."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from detectron2.modeling.meta_arch.panoptic_fpn import combine_semantic_and_instance_outputs
from detectron2.structures import Boxes, BoxMode, Instances, RotatedBoxes
from hypothesis import given, settings
from hypothesis import strategies as st

from d2serve.client.errors import Detectron2Unavailable, InvalidInput, MalformedReply
from d2serve.client.results.prediction import Prediction, parse_prediction
from tests.client.handmade import (
    instance,
    panoptic_seg,
    prediction,
    proposal,
    reply,
    rle,
    sem_seg,
    stuff,
)

HEIGHT, WIDTH = 24, 32
FLOATS = st.floats(-1e4, 1e4, width=32)
LABELS = np.arange(HEIGHT * WIDTH).reshape(HEIGHT, WIDTH) // 100


def as_sent(model_output: Instances) -> list[dict[str, Any]]:
    """What a server says of these instances."""
    fields = model_output.get_fields()
    sent = []
    for i in range(len(model_output)):
        about = instance(int(fields["pred_classes"][i]), *fields["pred_boxes"].tensor[i].tolist())
        about["score"] = float(fields["scores"][i])
        if "pred_masks" in fields:
            about["segmentation"] = rle(fields["pred_masks"][i].numpy())
        if "pred_keypoints" in fields:
            about["keypoints"] = fields["pred_keypoints"][i].tolist()
        sent.append(about)
    return sent


def some_instances(seed: int, count: int) -> Instances:
    random = torch.Generator().manual_seed(seed)
    corners = torch.rand((count, 2, 2), generator=random) * torch.tensor([WIDTH, HEIGHT])
    boxes = torch.cat([corners.min(dim=1).values, corners.max(dim=1).values], dim=1)
    masks = torch.zeros((count, HEIGHT, WIDTH), dtype=torch.bool)
    for mask, (x0, y0, x1, y1) in zip(masks, boxes.int().tolist()):
        mask[y0 : y1 + 1, x0 : x1 + 1] = True
    return Instances(
        (HEIGHT, WIDTH),
        pred_boxes=Boxes(boxes),
        scores=torch.rand(count, generator=random).sort(descending=True).values,
        pred_classes=torch.randint(0, 80, (count,), generator=random),
        pred_masks=masks,
        pred_keypoints=torch.rand((count, 17, 3), generator=random) * 30,
    )


def over_the_wire(sent: dict[str, Any]) -> dict[str, Any]:
    return parse_prediction(json.dumps(sent)).to_detectron2()


def assert_same_instances(got: Instances, expected: Instances) -> None:
    assert got.image_size == expected.image_size
    assert sorted(got.get_fields()) == sorted(expected.get_fields())
    for name, value in expected.get_fields().items():
        mine = got.get(name)
        assert type(mine) is type(value), name
        mine, value = (getattr(each, "tensor", each) for each in (mine, value))
        assert (mine.dtype, mine.shape) == (value.dtype, value.shape), name
        assert torch.equal(mine, value), name


@settings(deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 6))
def test_instances_come_back_bit_for_bit(seed: int, count: int) -> None:
    expected = some_instances(seed, count)
    outputs = over_the_wire(reply(HEIGHT, WIDTH, instances=as_sent(expected)))
    assert list(outputs) == ["instances"]
    assert_same_instances(outputs["instances"], expected)


def test_what_a_model_does_not_predict_is_absent() -> None:
    expected = some_instances(0, 3)
    for name in ("pred_masks", "pred_keypoints"):
        expected.remove(name)
    outputs = over_the_wire(reply(HEIGHT, WIDTH, instances=as_sent(expected)))
    assert_same_instances(outputs["instances"], expected)


@settings(deadline=None)
@given(st.lists(st.tuples(FLOATS, FLOATS, FLOATS, FLOATS, FLOATS), min_size=1, max_size=5))
def test_rotated_boxes_come_back_bit_for_bit(boxes: list[tuple[float, ...]]) -> None:
    sent = reply(HEIGHT, WIDTH, instances=[instance(1, *box) for box in boxes])
    rotated = over_the_wire(sent)["instances"].pred_boxes
    assert isinstance(rotated, RotatedBoxes)
    assert torch.equal(rotated.tensor, torch.tensor(boxes, dtype=torch.float32))


@settings(deadline=None)
@given(st.tuples(FLOATS, FLOATS, st.floats(0, 500), st.floats(0, 500), FLOATS))
def test_corners_span_what_detectron2_makes_of_a_rotated_box(box: tuple[float, ...]) -> None:
    (found,) = prediction(9, 9, instances=[instance(0, *box)]).instances
    corners = found.corners()
    upright = BoxMode.convert(list(box), BoxMode.XYWHA_ABS, BoxMode.XYXY_ABS)
    np.testing.assert_allclose(corners.min(axis=0), upright[:2], atol=2e-2)
    np.testing.assert_allclose(corners.max(axis=0), upright[2:], atol=2e-2)


def test_a_rotated_box_turns_counter_clockwise() -> None:
    level, turned = (
        prediction(99, 99, instances=[instance(0, 50, 50, 40, 2, angle)]).instances[0].corners()
        for angle in (0, 30)
    )
    right = level[:, 0] > 50
    assert (turned[right][:, 1] < 50).all(), "its right end has gone up"
    (upright,) = prediction(99, 99, instances=[instance(0, 30, 49, 70, 51)]).instances
    np.testing.assert_array_equal(upright.corners(), level)


def test_no_instances_keep_the_shapes_that_the_reply_can_tell() -> None:
    empty = over_the_wire(reply(HEIGHT, WIDTH, instances=[]))["instances"]
    assert empty.pred_boxes.tensor.shape == (0, 4)
    assert (empty.scores.dtype, empty.pred_classes.dtype) == (torch.float32, torch.int64)
    assert (len(empty), empty.has("pred_masks")) == (0, False)

    ids = np.ones((HEIGHT, WIDTH), int)
    panoptic = panoptic_seg(ids, stuff(ids, 1, 2))
    outputs = over_the_wire(
        reply(HEIGHT, WIDTH, instances=[], sem_seg=sem_seg(2 * ids), panoptic_seg=panoptic)
    )
    assert outputs["instances"].pred_masks.shape == (0, HEIGHT, WIDTH)
    assert outputs["instances"].pred_masks.dtype == torch.bool


@settings(deadline=None)
@given(st.integers(0, 2**32), st.integers(0, 6))
def test_a_panoptic_answer_is_what_detectron2_merged(seed: int, count: int) -> None:
    found = some_instances(seed, count)
    found.remove("pred_keypoints")
    semantic = torch.from_numpy(LABELS)
    merged, segments = combine_semantic_and_instance_outputs(found, semantic, 0.5, 20, 0.3)
    listed = [{**segment, "area": int((merged == segment["id"]).sum())} for segment in segments]
    outputs = over_the_wire(
        reply(
            HEIGHT,
            WIDTH,
            instances=as_sent(found),
            sem_seg=sem_seg(LABELS),
            panoptic_seg=panoptic_seg(merged.numpy(), *listed),
        )
    )
    assert set(outputs) == {"instances", "sem_seg", "panoptic_seg"}
    assert_same_instances(outputs["instances"], found)
    labels, segments_info = outputs["panoptic_seg"]
    assert segments_info == segments
    assert labels.dtype == merged.dtype == torch.int32
    assert torch.equal(labels, merged)
    assert torch.equal(outputs["sem_seg"].argmax(dim=0), semantic)


@pytest.mark.parametrize("as_rle", [False, True])
def test_sem_seg_is_one_hot_with_the_same_argmax(as_rle: bool) -> None:
    answer = prediction(HEIGHT, WIDTH, sem_seg=sem_seg(LABELS, as_rle=as_rle))
    outputs = answer.to_detectron2()
    assert list(outputs) == ["sem_seg"]
    logits = outputs["sem_seg"]
    assert (logits.dtype, logits.shape) == (torch.float32, (8, HEIGHT, WIDTH))
    assert torch.equal(logits.argmax(dim=0), torch.from_numpy(LABELS))
    assert torch.equal(logits.sum(dim=0), torch.ones(HEIGHT, WIDTH))
    assert answer.to_detectron2(sem_seg_classes=54)["sem_seg"].shape == (54, HEIGHT, WIDTH)
    with pytest.raises(InvalidInput, match=r"sem_seg_classes is 7, .* at least 8"):
        answer.to_detectron2(sem_seg_classes=7)


def test_proposals() -> None:
    outputs = over_the_wire(
        reply(HEIGHT, WIDTH, proposals=[proposal(3.25, 0, 1, 2, 3), proposal(-1.5, 4, 5, 6, 7)])
    )
    assert list(outputs) == ["proposals"]
    expected = Instances(
        (HEIGHT, WIDTH),
        proposal_boxes=Boxes(torch.tensor([[0.0, 1, 2, 3], [4, 5, 6, 7]])),
        objectness_logits=torch.tensor([3.25, -1.5]),
    )
    assert_same_instances(outputs["proposals"], expected)
    none = over_the_wire(reply(HEIGHT, WIDTH, proposals=[]))["proposals"]
    assert (len(none), none.proposal_boxes.tensor.shape) == (0, (0, 4))


def mixed(**fields: Any) -> Prediction:
    """Two instances, of which one has these fields."""
    return prediction(4, 6, instances=[instance(0, 0, 0, 2, 2, **fields), instance(1, 0, 0, 1, 1)])


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (
            mixed(segmentation=rle(np.ones((4, 6), np.bool_))),
            "1 of 2 instances have 'segmentation'",
        ),
        (mixed(keypoints=[[1, 2, 0.5]]), "1 of 2 instances have 'keypoints'"),
        (
            prediction(
                4,
                6,
                instances=[
                    instance(0, 0, 0, 2, 2, keypoints=[[1, 2, 0.5]] * count) for count in (1, 2)
                ],
            ),
            "different numbers of keypoints",
        ),
    ],
)
def test_instances_of_one_model_are_alike(answer: Prediction, told: str) -> None:
    with pytest.raises(MalformedReply, match=told):
        answer.to_detectron2()


@pytest.mark.parametrize("name", ["detectron2.structures", "torch"])
def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(Detectron2Unavailable, match=rf"{name}.*Install detectron2.*label_map"):
        prediction(4, 6, instances=[]).to_detectron2()


def test_reading_a_reply_loads_neither_torch_nor_detectron2() -> None:
    script = (
        "import sys; from d2serve.client import parse_prediction\n"
        f"parse_prediction({reply(4, 6, instances=[])!r})\n"
        "print(sorted({'torch', 'detectron2'} & set(sys.modules)))"
    )
    told = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True
    )
    assert told.stdout.strip() == "[]"
