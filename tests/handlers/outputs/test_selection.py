"""What is left out early is what is left out late, and what is left out costs nothing."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from d2serve.handlers.outputs import keypoints, masks, postprocessing
from d2serve.handlers.outputs.postprocessing import postprocess
from d2serve.handlers.outputs.records import Outputs, PanopticSeg, Segment
from d2serve.handlers.outputs.rle import Rle
from d2serve.handlers.outputs.selection import EVERYTHING, Selection, select
from d2serve.handlers.requests.preprocessing import ModelInput
from d2serve.handlers.runtimes.raw_outputs import RawOutputs
from d2serve.handlers.spec.model_spec import PanopticMerge
from tests.handlers.answers import answer_with, found
from tests.handlers.raw_answers import prepared, raw_outputs
from tests.handlers.samples import bits, cases, spec_with

MASKS = tuple(Rle(size=[480, 640], counts=str(i)) for i in range(4))
OUTPUTS = answer_with(
    found([[i, 0, 9, 9] for i in range(4)], MASKS, np.arange(24, dtype=np.float32).reshape(4, 2, 3))
)
SCORES = [float(score) for score in np.linspace(0.9, 0.1, 4, dtype=np.float32)]


def kept(selection: Selection) -> list[int]:
    """Which of the four; every field must be of the same ones."""
    instances = select(OUTPUTS, selection).instances
    assert instances is not None
    ids: list[int] = instances.classes.tolist()
    assert instances.boxes[:, 0].tolist() == ids
    assert instances.masks == tuple(MASKS[i] for i in ids)
    assert instances.keypoints is not None
    assert instances.keypoints[:, 0, 0].tolist() == [6 * i for i in ids]
    assert instances.scores.tolist() == [SCORES[i] for i in ids]
    return ids


def test_everything_is_the_same_object() -> None:
    assert select(OUTPUTS, EVERYTHING) is OUTPUTS
    assert select(OUTPUTS, Selection(score_thresh=0.05, most=4)) is OUTPUTS


@pytest.mark.parametrize(
    ("selection", "ids"),
    [
        (Selection(score_thresh=0.5), [0, 1]),
        (Selection(score_thresh=SCORES[1]), [0]),
        (Selection(score_thresh=1.0), []),
        (Selection(most=3), [0, 1, 2]),
        (Selection(classes=frozenset({3, 1, 99})), [1, 3]),
        (Selection(classes=frozenset({1, 2, 3}), most=2), [1, 2]),
        (Selection(classes=frozenset({1, 2, 3}), score_thresh=0.5), [1]),
    ],
)
def test_instances(selection: Selection, ids: list[int]) -> None:
    assert kept(selection) == ids


def test_no_masks() -> None:
    instances = select(OUTPUTS, Selection(masks=False)).instances
    assert instances is not None
    assert instances.masks is None
    assert len(instances) == 4


def test_proposals() -> None:
    raw: RawOutputs = {
        "proposal_boxes": np.array([[0, 0, i, 9] for i in range(5)], np.float32),
        "objectness_logits": np.arange(5, 0, -1).astype(np.float32),
    }
    spec = spec_with(outputs=("proposal_boxes", "objectness_logits"))
    got = postprocess(raw, prepared(20, 30, (20, 30)), spec, Selection(most=2))
    assert got.proposals is not None
    assert got.proposals.objectness_logits.tolist() == [4, 3]  # the first is empty


def test_things_tell_which_of_the_instances_left_they_are() -> None:
    things = [Segment(i + 1, i, True, 5, SCORES[i], i) for i in (0, 1, 3)]
    stuff = Segment(9, 0, False, 5, None, None)
    panoptic = PanopticSeg(np.zeros((2, 2), np.int32), (*things, stuff))
    outputs = Outputs(480, 640, OUTPUTS.instances, None, panoptic, None)
    got = select(outputs, Selection(classes=frozenset({1, 3}))).panoptic_seg
    assert got is not None
    assert [each.instance_id for each in got.segments] == [None, 0, 1, None]
    assert got.labels is panoptic.labels


selections = st.builds(
    Selection,
    score_thresh=st.none() | st.floats(0, 1),
    classes=st.none() | st.frozensets(st.integers(0, 79)),
    most=st.none() | st.integers(1, 7),
    masks=st.booleans(),
)


def told(outputs: Outputs) -> dict[str, Any]:
    """Instances with every number as its bits."""
    assert outputs.instances is not None
    values = {
        field.name: getattr(outputs.instances, field.name)
        for field in dataclasses.fields(outputs.instances)
    }
    return {
        name: (value.shape, bits(value)) if isinstance(value, np.ndarray) else value
        for name, value in values.items()
    }


@cases(400)
@given(raw_outputs(), selections, st.randoms(use_true_random=False))
def test_early_is_late(
    raw_and_image: tuple[RawOutputs, ModelInput], selection: Selection, random: Any
) -> None:
    """Also of empty boxes, which count for no maximum, and of scores that do not fall."""
    raw, image = raw_and_image
    order = random.sample(range(len(raw["scores"])), len(raw["scores"]))
    raw = {name: values[order] for name, values in raw.items()}
    if "pred_keypoints" in raw and random.random() < 0.5:
        count = len(raw.pop("pred_keypoints"))
        shape = (count, 3, 8, 8)
        raw["pred_keypoint_heatmaps"] = np.random.default_rng(count).random(shape, np.float32)
        huge = np.abs(raw["pred_boxes"]).max(initial=0) > 1000  # maps as large as their boxes
        if huge:
            raw.pop("pred_keypoint_heatmaps")
    scores = raw["scores"].tolist()
    if scores and random.random() < 0.5:  # at the threshold itself
        selection = dataclasses.replace(selection, score_thresh=random.choice(scores))
    early = postprocess(raw, image, spec_with(), selection)
    late = select(postprocess(raw, image, spec_with()), selection)
    assert told(early) == told(late)


class Counted:
    """Calls a function, and counts what it was given."""

    def __init__(self, function: Any) -> None:
        self.function = function
        self.items = 0
        self.calls = 0

    def __call__(self, first: Any, *rest: Any) -> Any:
        self.items += len(first)
        self.calls += 1
        return self.function(first, *rest)


RAW: RawOutputs = {
    "pred_boxes": np.array([[i, 0, i + 9, 9] for i in range(10)], np.float32),
    "scores": np.linspace(0.95, 0.05, 10, dtype=np.float32),
    "pred_classes": np.arange(10) % 2,
    "pred_masks": np.ones((10, 1, 28, 28), np.float32),
    "pred_keypoint_heatmaps": np.ones((10, 2, 8, 8), np.float32),
}
IMAGE = prepared(20, 30, (20, 30))


@pytest.mark.parametrize(
    ("selection", "count"),
    [
        (EVERYTHING, 10),
        (Selection(score_thresh=0.9), 1),
        (Selection(score_thresh=1.0), 0),
        (Selection(most=3), 3),
        (Selection(classes=frozenset({1})), 5),
        (Selection(classes=frozenset({1}), most=2, score_thresh=0.5), 2),
    ],
)
def test_what_is_not_wanted_is_not_computed(
    monkeypatch: pytest.MonkeyPatch, selection: Selection, count: int
) -> None:
    pasted, read = Counted(masks.encode_masks), Counted(keypoints.keypoints_of)
    monkeypatch.setattr(postprocessing, "encode_masks", pasted)
    monkeypatch.setattr(postprocessing, "keypoints_of", read)
    outputs = postprocess(RAW, IMAGE, spec_with(), selection)
    assert outputs.instances is not None
    assert (len(outputs.instances), pasted.items, read.items) == (count, count, count)


def test_without_masks_none_is_pasted(monkeypatch: pytest.MonkeyPatch) -> None:
    pasted = Counted(masks.encode_masks)
    monkeypatch.setattr(postprocessing, "encode_masks", pasted)
    outputs = postprocess(RAW, IMAGE, spec_with(), Selection(masks=False))
    assert outputs.instances is not None
    assert outputs.instances.masks is None
    assert (len(outputs.instances), pasted.calls) == (10, 0)


def test_a_panoptic_merge_gets_them_all(monkeypatch: pytest.MonkeyPatch) -> None:
    pasted = Counted(masks.encode_masks)
    monkeypatch.setattr(postprocessing, "encode_masks", pasted)
    spec = spec_with(panoptic=PanopticMerge(0.5, 1, 0.0))
    raw: RawOutputs = {**RAW, "sem_seg": np.ones((2, 20, 30), np.float32)}
    chosen = Selection(most=3, masks=False)
    outputs = postprocess(raw, IMAGE, spec, chosen)
    everything = postprocess(raw, IMAGE, spec)
    assert pasted.items == 20
    assert outputs.panoptic_seg is not None
    assert everything.panoptic_seg is not None
    assert np.array_equal(outputs.panoptic_seg.labels, everything.panoptic_seg.labels)
    assert outputs.instances is not None
    assert (len(outputs.instances), outputs.instances.masks) == (3, None)
