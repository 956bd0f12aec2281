"""What a program is asked for is what a request needs, and its rows find their instances."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from d2serve.handlers.detector import Detector
from d2serve.handlers.errors import ModelFailed
from d2serve.handlers.outputs.records import Detections, Float32
from d2serve.handlers.outputs.selection import EVERYTHING, Selection
from d2serve.handlers.requests.preprocessing import ModelInput
from d2serve.handlers.runtimes.batching import BatchPlanner
from d2serve.handlers.runtimes.details import Details
from d2serve.handlers.runtimes.raw_outputs import RawOutputs, Size
from tests.handlers.raw_answers import detectron2_answers, prepared
from tests.handlers.samples import coco_rles, spec_with

CLASSES = 3
INSTANCES = 12
SPEC = spec_with(
    outputs=("pred_boxes", "scores", "pred_classes", "pred_masks"), detail_classes=CLASSES
)
IMAGE = prepared(60, 80, (30, 40))
RNG = np.random.default_rng(5)


def answer_of_all(empty: Sequence[int] = ()) -> RawOutputs:
    corners = RNG.uniform(0, 12, (INSTANCES, 2))
    boxes = np.concatenate([corners, corners + RNG.uniform(4, 17, (INSTANCES, 2))], axis=1)
    boxes[list(empty)] = [[50, 3, 60, 9]]  # to the right of the image: nothing is left of them
    return {
        "pred_boxes": boxes.astype(np.float32),
        "scores": np.linspace(0.95, 0.1, INSTANCES, dtype=np.float32),
        "pred_classes": np.arange(INSTANCES) % CLASSES,
        "pred_masks": RNG.uniform(0, 1, (INSTANCES, 1, 28, 28)).astype(np.float32),
    }


class Asked:
    """A program that makes masks where it is asked to, and remembers how many."""

    on_gpu = False

    def __init__(self, raw: RawOutputs, too_many: int = 0) -> None:
        self.raw, self.too_many = raw, too_many
        self.made: list[int] = []

    def run(
        self,
        images: Sequence[Float32],
        sizes: Sequence[Size] = (),
        details: Sequence[Details] = (),
    ) -> list[RawOutputs]:
        del sizes
        wanted = details or [Details.of_all(CLASSES)] * len(images)
        return [self._answer(*each.inputs) for each in wanted]

    def _answer(self, scores: Any, most: Any) -> RawOutputs:
        found = zip(self.raw["scores"], self.raw["pred_classes"])
        rows = [i for i, (score, kind) in enumerate(found) if score > scores[kind]][: int(most)]
        rows += [0] * self.too_many
        self.made.append(len(rows))
        return {**self.raw, "pred_masks": self.raw["pred_masks"][rows]}

    def set_threads(self, threads: int) -> None:
        pass


def asked(program: Asked, selections: Sequence[Selection], together: bool) -> list[Any]:
    planner = BatchPlanner("always" if together else "never", together, False)
    images: list[ModelInput] = [IMAGE] * len(selections)
    return [each.outcome for each in Detector(SPEC, program, planner).answer(images, selections)]


def check(found: Detections, raw: RawOutputs, selection: Selection) -> int:
    """Against detectron2's own answer with all masks, cut to what is wanted; how many there are."""
    expected = detectron2_answers(raw, IMAGE)
    if selection.score_thresh is not None:
        expected = expected[expected.scores > selection.score_thresh]
    if selection.classes is not None:
        expected = expected[[c in selection.classes for c in expected.pred_classes.tolist()]]
    expected = expected[: selection.most]
    assert np.array_equal(found.boxes, expected.pred_boxes.tensor.numpy())
    assert np.array_equal(found.scores, expected.scores.numpy())
    if selection.masks:
        assert found.masks is not None
        assert list(found.masks) == coco_rles(expected.pred_masks.numpy())
    else:
        assert found.masks is None
    return len(expected)


WISHES = [
    EVERYTHING,
    Selection(masks=False),
    Selection(most=4),
    Selection(score_thresh=0.5),
    Selection(classes=frozenset({0, 2}), most=3),
    Selection(score_thresh=0.97),
]


@pytest.mark.parametrize("together", [True, False])
def test_only_what_is_left_gets_masks(together: bool) -> None:
    program = Asked(answer_of_all())
    answers = asked(program, WISHES, together)
    counts = [check(a.instances, program.raw, wish) for a, wish in zip(answers, WISHES)]
    assert counts == [12, 12, 4, 6, 3, 0]
    assert program.made == [12, 0, 4, 6, 3, 0]


def test_where_a_box_among_the_best_is_empty_the_program_is_asked_again() -> None:
    program = Asked(answer_of_all(empty=[1]))
    (answer,) = asked(program, [Selection(most=4)], False)
    assert check(answer.instances, program.raw, Selection(most=4)) == 4
    assert program.made == [4, INSTANCES]


def test_an_empty_box_that_nothing_takes_the_place_of_costs_nothing() -> None:
    program = Asked(answer_of_all(empty=[1]))
    (answer,) = asked(program, [Selection(score_thresh=0.5)], False)
    assert check(answer.instances, program.raw, Selection(score_thresh=0.5)) == 5
    assert program.made == [6]


def test_more_rows_than_were_asked_for_are_refused() -> None:
    (answer,) = asked(Asked(answer_of_all(), too_many=1), [Selection(most=4)], False)
    assert isinstance(answer, ModelFailed)
    assert "answered 5 rows of pred_masks, expected 4" in str(answer)


def test_keypoints_are_made_without_masks() -> None:
    spec = spec_with(outputs=(*SPEC.outputs, "pred_keypoints"), detail_classes=CLASSES)
    raw = answer_of_all()
    raw["pred_keypoints"] = RNG.uniform(0, 30, (INSTANCES, 5, 3)).astype(np.float32)

    class Both(Asked):
        def _answer(self, scores: Any, most: Any) -> RawOutputs:
            got = super()._answer(scores, most)
            return {**got, "pred_keypoints": self.raw["pred_keypoints"][: self.made[-1]]}

    program = Both(raw)
    detector = Detector(spec, program, BatchPlanner("never", False, False))
    (answer,) = detector.answer([IMAGE], [Selection(masks=False, most=3)])
    found: Any = answer.outcome
    assert program.made == [3]
    assert found.instances.masks is None
    expected = detectron2_answers(raw, IMAGE)[:3].pred_keypoints.numpy()
    assert np.array_equal(found.instances.keypoints, expected)
