"""Segments and map are those of detectron2's ``combine_semantic_and_instance_outputs``."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from detectron2.modeling.meta_arch.panoptic_fpn import combine_semantic_and_instance_outputs
from detectron2.structures import Instances
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from d2serve.handlers.outputs.panoptic import merge
from d2serve.handlers.outputs.records import Detections, PanopticSeg
from d2serve.handlers.outputs.rle import Rle
from d2serve.handlers.spec.model_spec import PanopticMerge
from tests.handlers.samples import cases, coco_rles

Masks = NDArray[np.bool_]
MERGE = PanopticMerge(0.5, 4, 0.5)


def detections(masks: Masks, scores: list[float]) -> Detections:
    rles = tuple(Rle(size=rle["size"], counts=rle["counts"]) for rle in coco_rles(masks))
    return Detections(
        height=masks.shape[1],
        width=masks.shape[2],
        boxes=np.zeros((len(masks), 4), np.float32),
        scores=np.array(scores, np.float32),
        classes=np.arange(len(masks)) * 3 % 7,
        masks=rles,
        keypoints=None,
    )


def detectron2_merges(
    found: Detections, masks: Masks, sem_seg: NDArray[np.int32], thresholds: PanopticMerge
) -> tuple[NDArray[np.int32], list[dict[str, Any]]]:
    instances = Instances((found.height, found.width))
    instances.scores = torch.from_numpy(found.scores)
    instances.pred_masks = torch.from_numpy(masks)
    instances.pred_classes = torch.from_numpy(found.classes)
    labels, segments = combine_semantic_and_instance_outputs(
        instances,
        torch.from_numpy(sem_seg.astype(np.int64)),
        thresholds.overlap_thresh,
        thresholds.stuff_area_limit,
        thresholds.instances_confidence_thresh,
    )
    return labels.numpy(), segments


def assert_as_detectron2(
    masks: Masks, scores: list[float], sem_seg: NDArray[np.int32], thresholds: PanopticMerge
) -> PanopticSeg:
    found = detections(masks, scores)
    got = merge(found, sem_seg, thresholds)
    labels, segments = detectron2_merges(found, masks, sem_seg, thresholds)
    np.testing.assert_array_equal(got.labels, labels)
    assert got.labels.dtype == np.int32
    assert got.labels.flags.c_contiguous
    assert len(got.segments) == len(segments)
    for ours, theirs in zip(got.segments, segments):
        assert ours.area == theirs.get("area", (labels == ours.id).sum())
        assert {
            "id": ours.id,
            "isthing": ours.isthing,
            "category_id": ours.category_id,
            "score": ours.score,
            "instance_id": ours.instance_id,
        } == {
            "score": None,
            "instance_id": None,
            **{k: v for k, v in theirs.items() if k != "area"},
        }
    return got


@st.composite
def scenes(draw: st.DrawFn) -> tuple[Masks, list[float], NDArray[np.int32], PanopticMerge]:
    """Rectangles and noise that overlap, some empty, over stuff in stripes or noise."""
    height, width = draw(st.integers(1, 24)), draw(st.integers(1, 24))
    count = draw(st.integers(0, 8))
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    masks = np.zeros((count, height, width), np.bool_)
    for mask in masks:
        kind = draw(st.sampled_from(["empty", "full", "noise", "rectangle", "rectangle"]))
        top, left = draw(st.integers(0, height - 1)), draw(st.integers(0, width - 1))
        if kind == "full":
            mask[:] = True
        elif kind == "noise":
            mask[:] = generator.random(mask.shape) < 0.3
        elif kind == "rectangle":
            mask[top : draw(st.integers(top, height)), left : draw(st.integers(left, width))] = True
    score = st.one_of(st.sampled_from([0.5, 0.25]), st.floats(0, 1, width=32))
    scores = sorted((draw(score) for _ in range(count)), reverse=True)
    labels = draw(st.sampled_from([1, 2, 5, 54]))
    sem_seg = generator.integers(0, labels, (height, width)).astype(np.int32)
    if draw(st.booleans()):
        sem_seg[:] = np.sort(sem_seg, axis=1)[:1]
    thresholds = PanopticMerge(
        overlap_thresh=draw(st.sampled_from([0.0, 0.25, 0.5, 1.0])),
        stuff_area_limit=draw(st.sampled_from([0, 1, 4, 60, 4096])),
        instances_confidence_thresh=draw(st.sampled_from([0.0, 0.25, 0.5, 0.9])),
    )
    return masks, scores, sem_seg, thresholds


@cases(600)
@given(scenes())
def test_any_scene(
    scene: tuple[Masks, list[float], NDArray[np.int32], PanopticMerge],
) -> None:
    assert_as_detectron2(*scene)


def test_no_instances() -> None:
    got = assert_as_detectron2(
        np.zeros((0, 5, 6), np.bool_), [], np.full((5, 6), 3, np.int32), MERGE
    )
    assert [each.category_id for each in got.segments] == [3]


def test_all_below_the_threshold() -> None:
    masks = np.ones((2, 5, 6), np.bool_)
    got = assert_as_detectron2(masks, [0.4, 0.3], np.zeros((5, 6), np.int32), MERGE)
    assert got.segments == ()
    assert not got.labels.any()


def test_a_score_at_the_threshold_counts() -> None:
    got = assert_as_detectron2(
        np.ones((1, 5, 6), np.bool_), [0.5], np.zeros((5, 6), np.int32), MERGE
    )
    assert len(got.segments) == 1


def test_empty_masks_take_no_id() -> None:
    masks = np.zeros((3, 5, 6), np.bool_)
    masks[1, :2] = True
    got = assert_as_detectron2(masks, [0.9, 0.8, 0.7], np.full((5, 6), 2, np.int32), MERGE)
    assert [(each.id, each.instance_id) for each in got.segments] == [(1, 1), (2, None)]


@pytest.mark.parametrize("seed", range(2))
def test_a_photograph(seed: int) -> None:
    generator = np.random.default_rng(seed)
    height, width = 240, 320
    y, x = np.mgrid[0:height, 0:width]
    masks = np.stack(
        [
            np.hypot(y - cy * height, x - cx * width) < radius * 60
            for cy, cx, radius in generator.random((60, 3))
        ]
    )
    scores = np.sort(generator.random(60, np.float32))[::-1].tolist()
    coarse = generator.integers(0, 54, (12, 16))
    sem_seg = np.kron(coarse, np.ones((20, 20), np.int64)).astype(np.int32)
    got = assert_as_detectron2(masks, scores, sem_seg, PanopticMerge(0.5, 300, 0.3))
    assert {each.isthing for each in got.segments} == {True, False}
