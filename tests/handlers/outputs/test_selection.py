"""What is left out is left out everywhere, and nothing is touched where nothing is."""

from __future__ import annotations

import numpy as np
import pytest

from d2serve.handlers.outputs.records import Outputs, PanopticSeg, Proposals, Segment
from d2serve.handlers.outputs.rle import Rle
from d2serve.handlers.outputs.selection import select
from d2serve.handlers.requests.options import DEFAULT_OPTIONS, RequestOptions
from d2serve.handlers.spec.limits import DEFAULT_LIMITS, RequestLimits
from tests.handlers.answers import answer_with, found

MASKS = tuple(Rle(size=[480, 640], counts=str(i)) for i in range(4))
OUTPUTS = answer_with(
    found([[i, 0, 9, 9] for i in range(4)], MASKS, np.arange(24, dtype=np.float32).reshape(4, 2, 3))
)
SCORES = [float(score) for score in np.linspace(0.9, 0.1, 4, dtype=np.float32)]


def kept(options: RequestOptions, limits: RequestLimits = DEFAULT_LIMITS) -> list[int]:
    """Which of the four; every field must be of the same ones."""
    instances = select(OUTPUTS, options, limits).instances
    assert instances is not None
    ids: list[int] = instances.classes.tolist()
    assert instances.boxes[:, 0].tolist() == ids
    assert instances.masks == tuple(MASKS[i] for i in ids)
    assert instances.keypoints is not None
    assert instances.keypoints[:, 0, 0].tolist() == [6 * i for i in ids]
    assert instances.scores.tolist() == [SCORES[i] for i in ids]
    return ids


def test_everything_is_the_same_object() -> None:
    assert select(OUTPUTS, DEFAULT_OPTIONS, DEFAULT_LIMITS) is OUTPUTS
    assert select(OUTPUTS, RequestOptions(score_thresh=0.05), DEFAULT_LIMITS) is OUTPUTS


@pytest.mark.parametrize(
    ("options", "ids"),
    [
        (RequestOptions(score_thresh=0.5), [0, 1]),
        (RequestOptions(score_thresh=SCORES[1]), [0]),
        (RequestOptions(score_thresh=1.0), []),
        (RequestOptions(max_detections=3), [0, 1, 2]),
        (RequestOptions(classes=frozenset({3, 1, 99})), [1, 3]),
        (RequestOptions(classes=frozenset({1, 2, 3}), max_detections=2), [1, 2]),
        (RequestOptions(classes=frozenset({1, 2, 3}), score_thresh=0.5), [1]),
    ],
)
def test_instances(options: RequestOptions, ids: list[int]) -> None:
    assert kept(options) == ids


def test_the_limit_of_the_archive() -> None:
    assert kept(DEFAULT_OPTIONS, RequestLimits(max_detections=2)) == [0, 1]


def test_no_masks() -> None:
    instances = select(OUTPUTS, RequestOptions(masks="none"), DEFAULT_LIMITS).instances
    assert instances is not None
    assert instances.masks is None
    assert len(instances) == 4


def test_proposals() -> None:
    proposals = Proposals(np.zeros((5, 4), np.float32), np.arange(5, 0, -1).astype(np.float32))
    got = select(answer_with(proposals=proposals), RequestOptions(max_detections=2), DEFAULT_LIMITS)
    assert got.proposals is not None
    assert got.proposals.objectness_logits.tolist() == [5, 4]


def test_things_tell_which_of_the_instances_left_they_are() -> None:
    things = [Segment(i + 1, i, True, 5, SCORES[i], i) for i in (0, 1, 3)]
    stuff = Segment(9, 0, False, 5, None, None)
    panoptic = PanopticSeg(np.zeros((2, 2), np.int32), (*things, stuff))
    outputs = Outputs(480, 640, OUTPUTS.instances, None, panoptic, None)
    got = select(outputs, RequestOptions(classes=frozenset({1, 3})), DEFAULT_LIMITS).panoptic_seg
    assert got is not None
    assert [each.instance_id for each in got.segments] == [None, 0, 1, None]
    assert got.labels is panoptic.labels
