"""From raw outputs to instances exactly as detectron2's ``detector_postprocess``."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from numpy.typing import NDArray

from d2serve.handlers.errors import ModelFailed
from d2serve.handlers.outputs.postprocessing import postprocess
from d2serve.handlers.outputs.records import Detections
from d2serve.handlers.requests.preprocessing import ModelInput
from d2serve.handlers.runtimes.raw_outputs import RawOutputs
from tests.handlers.raw_answers import (
    detectron2_answers,
    instances_of,
    prepared,
    raw_boxes,
    raw_outputs,
)
from tests.handlers.samples import bits, cases, coco_rles, spec_with


def assert_as_detectron2(raw: RawOutputs, image: ModelInput) -> Detections:
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


@cases(500)
@given(raw_outputs())
def test_any_outputs(outputs_and_image: tuple[RawOutputs, ModelInput]) -> None:
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
