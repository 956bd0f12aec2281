"""From raw outputs to instances and proposals exactly as detectron2's ``detector_postprocess``."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from detectron2.modeling.meta_arch.panoptic_fpn import combine_semantic_and_instance_outputs
from detectron2.modeling.postprocessing import detector_postprocess, sem_seg_postprocess
from detectron2.structures import Boxes, Instances
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from d2serve.handlers.detections import Detections, RawOutputs
from d2serve.handlers.errors import ModelFailed
from d2serve.handlers.model_spec import PanopticMerge
from d2serve.handlers.postprocessing import postprocess
from d2serve.handlers.preprocessing import PreparedImage
from tests.handlers.samples import bits, cases, coco_rles, spec_with


def prepared(height: int, width: int, resized: tuple[int, int]) -> PreparedImage:
    return PreparedImage(np.zeros((3, *resized), np.float32), height, width)


def instances_of(raw: RawOutputs, image: PreparedImage, **spec: Any) -> Detections:
    outputs = postprocess(raw, image, spec_with(**spec))
    assert (outputs.height, outputs.width) == (image.height, image.width)
    assert (outputs.sem_seg, outputs.panoptic_seg, outputs.proposals) == (None, None, None)
    assert outputs.instances is not None
    return outputs.instances


def detectron2_answers(raw: RawOutputs, image: PreparedImage) -> Any:
    """The Instances of detector_postprocess, which come by falling score as the model gave them."""
    instances = Instances(image.resized)
    for name, values in raw.items():
        tensor = torch.from_numpy(values.copy())
        instances.set(name, Boxes(tensor) if name == "pred_boxes" else tensor)
    return detector_postprocess(instances, image.height, image.width)


def assert_as_detectron2(raw: RawOutputs, image: PreparedImage) -> Detections:
    got = instances_of(raw, image)
    expected = detectron2_answers(raw, image)
    assert (got.height, got.width) == expected.image_size
    assert len(got) == len(expected)
    assert got.boxes.shape == (len(got), 4)
    assert bits(got.boxes) == bits(expected.pred_boxes.tensor.numpy())
    assert bits(got.scores) == bits(expected.scores.numpy())
    assert got.classes.tolist() == expected.pred_classes.tolist()
    if "pred_masks" in raw:
        assert list(got.masks or ()) == coco_rles(expected.pred_masks.numpy())
    else:
        assert got.masks is None
    if "pred_keypoints" in raw:
        assert got.keypoints is not None
        assert got.keypoints.shape == tuple(expected.pred_keypoints.shape)
        assert bits(got.keypoints) == bits(expected.pred_keypoints.numpy())
    else:
        assert got.keypoints is None
    return got


@st.composite
def raw_outputs(draw: st.DrawFn) -> tuple[RawOutputs, PreparedImage]:
    """Boxes in, across and outside the image, some empty, with masks and keypoints or not."""
    height, width = draw(st.integers(1, 120)), draw(st.integers(1, 120))
    resized = draw(st.tuples(st.integers(1, 150), st.integers(1, 150)))
    count = draw(st.integers(0, 6))
    sides = (resized[1], resized[0]) * 2
    coordinates = [
        st.one_of(
            st.floats(-side, 2 * side, width=32),
            st.sampled_from([0.0, -0.0, float(side), side / 2, -1.0]),
            st.floats(-(2.0**100), 2.0**100, width=32),
        )
        for side in sides
    ]
    boxes = [[draw(each) for each in coordinates] for _ in range(count)]
    scores = sorted((draw(st.floats(0, 1, width=32)) for _ in range(count)), reverse=True)
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    raw: RawOutputs = {
        "pred_boxes": np.array(boxes, np.float32).reshape(count, 4),
        "scores": np.array(scores, np.float32),
        "pred_classes": generator.integers(0, 80, count),
    }
    if draw(st.booleans()):
        raw["pred_masks"] = generator.random((count, 1, 28, 28), np.float32)
    if draw(st.booleans()):
        keypoints = generator.normal(40, 60, (count, 17, 3))
        raw["pred_keypoints"] = keypoints.astype(np.float32)
    return raw, prepared(height, width, resized)


@cases(500)
@given(raw_outputs())
def test_any_outputs(outputs_and_image: tuple[RawOutputs, PreparedImage]) -> None:
    raw, image = outputs_and_image
    before = {name: values.copy() for name, values in raw.items()}
    assert_as_detectron2(raw, image)
    for name, values in raw.items():
        np.testing.assert_array_equal(values, before[name], err_msg=f"{name} was changed")


@pytest.mark.parametrize("seed", range(3))
def test_a_hundred_instances_of_a_photograph(seed: int) -> None:
    generator = np.random.default_rng(seed)
    low = generator.random((100, 2)) * (1333, 800) - 50
    boxes = np.concatenate([low, low + generator.random((100, 2)) * 400 - 10], axis=1)
    raw: RawOutputs = {
        "pred_boxes": boxes.astype(np.float32),
        "scores": np.sort(generator.random(100, np.float32))[::-1].copy(),
        "pred_classes": generator.integers(0, 80, 100),
        "pred_masks": generator.random((100, 1, 28, 28), np.float32),
        "pred_keypoints": (generator.random((100, 17, 3)) * 800).astype(np.float32),
    }
    got = assert_as_detectron2(raw, prepared(427, 640, (800, 1199)))
    assert 50 < len(got) < 100  # some lay outside


def raw_boxes(boxes: list[list[float]], scores: list[float]) -> RawOutputs:
    return {
        "pred_boxes": np.array(boxes, np.float32).reshape(-1, 4),
        "scores": np.array(scores, np.float32),
        "pred_classes": np.arange(len(scores)),
    }


def test_instances_are_ordered_by_falling_score_and_equal_ones_stay_in_order() -> None:
    scores = [0.2, 0.9, 0.5, 0.9, 0.5]
    raw = raw_boxes([[0, 0, 5 + i, 5] for i in range(5)], scores)
    got = instances_of(raw, prepared(10, 10, (10, 10)))
    assert got.classes.tolist() == [1, 3, 2, 4, 0]
    assert got.boxes[:, 2].tolist() == [6, 8, 7, 9, 5]
    assert bits(got.scores) == bits([0.9, 0.9, 0.5, 0.5, 0.2])


def test_masks_and_keypoints_follow_their_boxes_into_the_order() -> None:
    raw = raw_boxes([[0, 0, 4, 4], [3, 3, 3, 9], [2, 2, 8, 8]], [0.3, 0.6, 0.9])
    raw["pred_masks"] = np.ones((3, 1, 28, 28), np.float32)
    raw["pred_keypoints"] = np.arange(9, dtype=np.float32).reshape(3, 1, 3)
    got = instances_of(raw, prepared(20, 20, (10, 10)))
    whole = np.zeros((2, 20, 20))
    whole[0, 4:16, 4:16] = whole[1, 0:8, 0:8] = 1
    assert list(got.masks or ()) == coco_rles(whole)
    assert got.keypoints is not None
    assert got.keypoints[:, 0].tolist() == [[12, 14, 8], [0, 2, 2]]


def test_without_instances_every_field_is_there_and_empty() -> None:
    raw = raw_boxes([], [])
    raw["pred_masks"] = np.zeros((0, 1, 28, 28), np.float32)
    raw["pred_keypoints"] = np.zeros((0, 17, 3), np.float32)
    got = assert_as_detectron2(raw, prepared(10, 10, (20, 20)))
    assert len(got) == 0
    assert got.masks == ()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", range(4))
def test_boxes_that_are_no_numbers_fail_as_in_detectron2(value: float, place: int) -> None:
    raw = raw_boxes([[0, 0, 5, 5], [0, 0, 6, 6]], [0.9, 0.8])
    raw["pred_boxes"] = raw["pred_boxes"].copy()
    np.asarray(raw["pred_boxes"])[1, place] = value
    image = prepared(10, 10, (10, 10))
    with pytest.raises(AssertionError, match="infinite or NaN"):
        detectron2_answers(raw, image)
    with pytest.raises(ModelFailed, match="infinite or not a number"):
        postprocess(raw, image, spec_with())


def test_boxes_that_overflow_when_they_are_scaled_fail_as_in_detectron2() -> None:
    raw = raw_boxes([[0, 0, 3e38, 5]], [0.9])
    image = prepared(20, 20, (10, 10))
    with pytest.raises(AssertionError, match="infinite or NaN"):
        detectron2_answers(raw, image)
    with pytest.raises(ModelFailed, match="infinite or not a number"), np.errstate(over="ignore"):
        postprocess(raw, image, spec_with())


def test_the_threshold_of_masks_is_the_specs() -> None:
    raw = raw_boxes([[0, 0, 10, 10]], [0.9])
    masks: NDArray[np.float32] = np.full((1, 1, 28, 28), 0.4, np.float32)
    raw["pred_masks"] = masks
    image = prepared(10, 10, (10, 10))
    assert list(instances_of(raw, image).masks or ()) == coco_rles(np.zeros((1, 10, 10)))
    assert list(instances_of(raw, image, mask_threshold=0.4).masks or ()) != coco_rles(
        np.zeros((1, 10, 10))
    )


@cases(300)
@given(raw_outputs())
def test_proposals(outputs_and_image: tuple[RawOutputs, PreparedImage]) -> None:
    raw, image = outputs_and_image
    boxes, logits = raw["pred_boxes"], np.asarray(raw["scores"]) * 9 - 4
    expected = Instances(image.resized)
    expected.proposal_boxes = Boxes(torch.from_numpy(boxes.copy()))
    expected.objectness_logits = torch.from_numpy(logits.copy())
    expected = detector_postprocess(expected, image.height, image.width)
    raw = {"proposal_boxes": boxes, "objectness_logits": logits}
    outputs = postprocess(raw, image, spec_with(outputs=tuple(raw)))
    assert (outputs.instances, outputs.sem_seg, outputs.panoptic_seg) == (None, None, None)
    got = outputs.proposals
    assert got is not None
    assert len(got) == len(expected)
    assert bits(got.boxes) == bits(expected.proposal_boxes.tensor.numpy())
    assert bits(got.objectness_logits) == bits(expected.objectness_logits.numpy())


def test_proposals_stay_in_the_order_of_the_program() -> None:
    raw: RawOutputs = {
        "proposal_boxes": np.array([[0, 0, 1 + i, 1] for i in range(3)], np.float32),
        "objectness_logits": np.array([-1, 2, 0.5], np.float32),
    }
    got = postprocess(raw, prepared(10, 10, (10, 10)), spec_with()).proposals
    assert got is not None
    assert got.objectness_logits.tolist() == [-1, 2, 0.5]
    assert got.boxes[:, 2].tolist() == [1, 2, 3]


def test_rotated_instances_are_ordered_and_scaled() -> None:
    raw = raw_boxes([], [0.2, 0.9, 0.5])
    raw["pred_boxes"] = np.array([[5, 5, 4, 2, 30], [5, 5, 4, 2, 90], [5, 5, 0, 2, 0]], np.float32)
    got = instances_of(raw, prepared(20, 10, (10, 10)), box_mode="XYWHA_ABS")
    assert got.classes.tolist() == [1, 0]
    assert got.boxes.shape == (2, 5)
    np.testing.assert_allclose(got.boxes[0], [5, 10, 8, 2, 90], rtol=1e-6)


def semantic_logits(image: PreparedImage, seed: int) -> NDArray[np.float32]:
    """Seven classes in rough regions, padded."""
    generator = np.random.default_rng(seed)
    height, width = image.resized[0] + 5, image.resized[1] + 3
    coarse = generator.normal(0, 5, (7, -(-height // 20), -(-width // 20)))
    fine = np.kron(coarse, np.ones((1, 20, 20)))[:, :height, :width]
    return (fine + generator.normal(0, 0.5, fine.shape)).astype(np.float32)


def test_semantic() -> None:
    image = prepared(97, 140, (160, 230))
    raw: RawOutputs = {"sem_seg": semantic_logits(image, 1)}
    outputs = postprocess(raw, image, spec_with(outputs=("sem_seg",)))
    assert (outputs.instances, outputs.panoptic_seg, outputs.proposals) == (None, None, None)
    enlarged = sem_seg_postprocess(torch.from_numpy(raw["sem_seg"]), image.resized, 97, 140)
    np.testing.assert_array_equal(outputs.sem_seg, enlarged.argmax(0).numpy())


@pytest.mark.parametrize("seed", range(5))
def test_panoptic(seed: int) -> None:
    """As PanopticFPN.inference puts the three together."""
    image = prepared(97, 140, (160, 230))
    generator = np.random.default_rng(seed)
    low = generator.random((30, 2)) * (200, 130) - 10
    raw: RawOutputs = {
        "pred_boxes": np.hstack([low, low + generator.random((30, 2)) * 90]).astype(np.float32),
        "scores": np.sort(generator.random(30, np.float32))[::-1].copy(),
        "pred_classes": generator.integers(0, 80, 30),
        "pred_masks": generator.random((30, 1, 28, 28), np.float32) + np.float32(0.3),
        "sem_seg": semantic_logits(image, seed),
    }
    merge = PanopticMerge(0.5, 150, 0.3)
    outputs = postprocess(raw, image, spec_with(outputs=tuple(raw), panoptic=merge))
    assert outputs.instances is not None
    assert outputs.panoptic_seg is not None
    instances = detectron2_answers({k: v for k, v in raw.items() if k != "sem_seg"}, image)
    enlarged = sem_seg_postprocess(torch.from_numpy(raw["sem_seg"]), image.resized, 97, 140)
    labels, segments = combine_semantic_and_instance_outputs(
        instances,
        enlarged.argmax(0),
        merge.overlap_thresh,
        merge.stuff_area_limit,
        merge.instances_confidence_thresh,
    )
    assert list(outputs.instances.masks or ()) == coco_rles(instances.pred_masks.numpy())
    np.testing.assert_array_equal(outputs.panoptic_seg.labels, labels.numpy())
    got = [(each.id, each.category_id, each.isthing) for each in outputs.panoptic_seg.segments]
    assert got == [(each["id"], each["category_id"], each["isthing"]) for each in segments]
    assert {True, False} == {each.isthing for each in outputs.panoptic_seg.segments}
