"""Outputs other than upright instances, put together as detectron2's meta-architectures do."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from detectron2.modeling.meta_arch.panoptic_fpn import combine_semantic_and_instance_outputs
from detectron2.modeling.postprocessing import detector_postprocess, sem_seg_postprocess
from detectron2.structures import Boxes, Instances
from hypothesis import given
from numpy.typing import NDArray

from d2serve.handlers.outputs.postprocessing import postprocess
from d2serve.handlers.requests.preprocessing import ModelInput
from d2serve.handlers.runtimes.raw_outputs import RawOutputs
from d2serve.handlers.spec.model_spec import PanopticMerge
from tests.handlers.raw_answers import (
    detectron2_answers,
    instances_of,
    prepared,
    raw_boxes,
    raw_outputs,
)
from tests.handlers.samples import bits, cases, coco_rles, spec_with


@cases(300)
@given(raw_outputs())
def test_proposals(outputs_and_image: tuple[RawOutputs, ModelInput]) -> None:
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


def semantic_logits(image: ModelInput, seed: int) -> NDArray[np.float32]:
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
