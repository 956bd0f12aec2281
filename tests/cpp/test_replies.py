"""What C++ makes of a program's outputs is what the handlers make of them: the same reply."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from d2serve.handlers.errors import ModelFailed
from d2serve.handlers.outputs.postprocessing import postprocess
from d2serve.handlers.replies.encoding import encode
from d2serve.handlers.requests.preprocessing import ModelInput
from d2serve.handlers.runtimes.raw_outputs import Float32, RawOutputs
from d2serve.handlers.spec.extras import DTYPES, IMAGE, INSTANCE, TENSOR, Extra
from d2serve.handlers.spec.model_spec import ModelSpec, PanopticMerge
from tests.cpp.replying import Replies, Reply, differences
from tests.handlers.outputs.test_masks import fused, pastes
from tests.handlers.raw_answers import prepared, raw_outputs
from tests.handlers.samples import cases, spec_with

NAMES = (*(f"class {i}" for i in range(79)), 'ein "Ä\\Ω\n\x01😀')
MERGE = PanopticMerge(0.5, 12, 0.3)


@pytest.fixture(scope="session")
def replies(sanitized_build: Path) -> Iterator[Replies]:
    """What C++ replies, under the sanitizers."""
    running = Replies(sanitized_build / "bin" / "d2serve_replies")
    yield running
    running.close()


def assert_same(
    replies: Replies, raw: RawOutputs, image: ModelInput, spec: ModelSpec, within: float = 0.0
) -> Reply:
    got = replies(raw, image, spec)
    expected = json.loads(encode(postprocess(raw, image, spec), spec, spec.name, "1.0"))
    assert differences(expected, got, within) == []
    return got


@cases(150)
@given(raw_outputs())
def test_instances(replies: Replies, given: tuple[RawOutputs, ModelInput]) -> None:
    raw, image = given
    assert_same(replies, raw, image, spec_with(outputs=tuple(raw), class_names=NAMES))


@fused
@cases(300)
@given(pastes())
def test_pasted_masks(replies: Replies, paste: tuple[Float32, Float32, int, int]) -> None:
    masks, boxes, height, width = paste
    raw: RawOutputs = {
        "pred_boxes": boxes,
        "scores": np.ones(1, np.float32),
        "pred_classes": np.zeros(1, np.int64),
        "pred_masks": masks[:, None],
    }
    image = prepared(height, width, (height, width))
    assert_same(replies, raw, image, spec_with(outputs=tuple(raw)))


@fused
def test_a_hundred_masks_as_a_program_answers_them(replies: Replies) -> None:
    generator = np.random.default_rng(0)
    corners = generator.uniform(0, 500, (100, 2, 2))
    boxes = np.concatenate([corners.min(1), corners.max(1) + 3], axis=1)
    cells = generator.random((100, 1, 28, 28))
    raw: RawOutputs = {
        "pred_boxes": boxes.astype(np.float32),
        "scores": generator.random(100).astype(np.float32),
        "pred_classes": generator.integers(0, 80, 100),
        "pred_masks": (cells * cells).astype(np.float32),
    }
    got = assert_same(replies, raw, prepared(480, 640, (400, 533)), spec_with(outputs=tuple(raw)))
    assert len({each["segmentation"]["counts"] for each in got["instances"]}) > 90


@cases(100)
@given(st.integers(0, 2**32 - 1), st.integers(0, 5))
def test_rotated_boxes(replies: Replies, seed: int, count: int) -> None:
    generator = np.random.default_rng(seed)
    boxes = generator.uniform(-50, 200, (count, 5)) * [1, 1, 1, 1, generator.choice([0.01, 3])]
    raw: RawOutputs = {
        "pred_boxes": boxes.astype(np.float32),
        "scores": generator.random(count).astype(np.float32),
        "pred_classes": np.zeros(count, np.int64),
    }
    spec = spec_with(outputs=tuple(raw), box_mode="XYWHA_ABS")
    # Sines of float32 differ by their last digit from library to library.
    assert_same(replies, raw, prepared(100, 150, (80, 160)), spec, within=1e-3)


@cases(60)
@given(st.integers(0, 2**32 - 1), st.integers(0, 4))
def test_keypoints_off_heatmaps(replies: Replies, seed: int, count: int) -> None:
    generator = np.random.default_rng(seed)
    corners = generator.uniform(0, 120, (count, 2, 2)).astype(np.float32)
    raw: RawOutputs = {
        "pred_boxes": np.concatenate([corners.min(1), corners.max(1) + 1], axis=1),
        "scores": generator.random(count).astype(np.float32),
        "pred_classes": np.zeros(count, np.int64),
        "pred_keypoint_heatmaps": generator.normal(0, 4, (count, 3, 56, 56)).astype(np.float32),
    }
    assert_same(
        replies, raw, prepared(150, 90, (130, 130)), spec_with(outputs=tuple(raw)), within=1e-4
    )


@cases(100)
@given(st.integers(0, 2**32 - 1))
def test_proposals(replies: Replies, seed: int) -> None:
    generator = np.random.default_rng(seed)
    count = int(generator.integers(0, 30))
    raw: RawOutputs = {
        "proposal_boxes": generator.uniform(-20, 120, (count, 4)).astype(np.float32),
        "objectness_logits": generator.normal(0, 5, count).astype(np.float32),
    }
    assert_same(replies, raw, prepared(77, 99, (70, 90)), spec_with(outputs=tuple(raw)))


@st.composite
def label_logits(draw: st.DrawFn) -> tuple[Float32, ModelInput]:
    """Logits of few or many classes, of an image that was resized and padded, or not."""
    resized = draw(st.tuples(st.integers(1, 60), st.integers(1, 60)))
    height, width = draw(st.one_of(st.just(resized), st.tuples(*[st.integers(1, 90)] * 2)))
    padded = [side + draw(st.sampled_from([0, 5])) for side in resized]
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    classes = draw(st.sampled_from([1, 2, 5, 300]))
    logits = generator.normal(0, 3, (classes, *padded))
    if draw(st.booleans()):  # ties
        logits = logits.round()
    return logits.astype(np.float32), prepared(height, width, resized)


@cases(100)
@given(label_logits())
def test_labels(replies: Replies, given: tuple[Float32, ModelInput]) -> None:
    logits, image = given
    names = tuple(f"stuff {i}" for i in range(300))
    spec = spec_with(outputs=("sem_seg",), stuff_class_names=names)
    assert_same(replies, {"sem_seg": logits}, image, spec)


@fused
@cases(60)
@given(raw_outputs(), st.integers(0, 2**32 - 1), st.booleans())
def test_panoptic_maps(
    replies: Replies, given: tuple[RawOutputs, ModelInput], seed: int, large: bool
) -> None:
    raw, image = given
    generator = np.random.default_rng(seed)
    count = len(raw["scores"])
    if large:  # so that masks overlap
        boxes = generator.uniform(0, 1, (count, 4)).astype(np.float32)
        raw["pred_boxes"] = np.sort(boxes.reshape(count, 2, 2), axis=1).reshape(count, 4) * 150
    cells = generator.random((count, 1, 1, 1)) + generator.random((count, 1, 28, 28)) * 0.3
    raw["pred_masks"] = cells.astype(np.float32)
    raw["sem_seg"] = generator.normal(0, 3, (4, *image.resized)).astype(np.float32)
    spec = spec_with(outputs=tuple(raw), panoptic=MERGE, class_names=NAMES)
    assert_same(replies, raw, image, spec)


@cases(60)
@given(st.integers(0, 2**32 - 1), st.sampled_from([3, 4]), st.sampled_from(["bool", "float32"]))
def test_final_answers(replies: Replies, seed: int, fields: int, mask_type: str) -> None:
    generator = np.random.default_rng(seed)
    count, height, width = (int(each) for each in generator.integers((0, 1, 1), (5, 40, 40)))
    ids = generator.permutation(300)[:4] + 1
    infos = np.stack([ids, *(generator.integers(0, 2, 4) for _ in range(fields - 1))], axis=1)
    raw: RawOutputs = {
        "pred_boxes": generator.uniform(-20, 60, (count, 4)).astype(np.float32),
        "scores": generator.random(count).round(1).astype(np.float32),
        "pred_classes": generator.integers(0, 80, count).astype(np.int32),
        "pred_masks": generator.integers(0, 2, (count, height, width)).astype(mask_type),
        "pred_keypoints": generator.normal(0, 9, (count, 2, 3)).astype(np.float32),
        "sem_seg": generator.integers(0, 3, (height, width)),
        "panoptic_seg": generator.choice([0, *ids], (height, width)).astype(np.int32),
        "segments_info": infos,
    }
    spec = spec_with(
        outputs=tuple(raw), postprocessed=True, class_names=NAMES, stuff_class_names=NAMES
    )
    assert_same(replies, raw, prepared(height, width, (8, 9)), spec)


_NUMBERS = [0, 1, -1.5, 3.4e38, 1e-40, float("nan"), float("inf"), -float("inf")]


@cases(100)
@given(st.sampled_from(DTYPES), st.lists(st.sampled_from(_NUMBERS), min_size=6, max_size=6))
def test_fields_of_the_models_own(replies: Replies, dtype: str, numbers: list[float]) -> None:
    whole = not dtype.startswith("float")
    finite = [number if abs(number) < 3 else 1 for number in numbers]
    with np.errstate(over="ignore"):
        values = np.array(finite if whole else numbers).astype(dtype)
    raw: RawOutputs = {
        "pred_boxes": np.array([[0, 0, 9, 9], [0, 0, 0, 0], [1, 1, 5, 5]], np.float32),
        "scores": np.array([0.2, 0.3, 0.9], np.float32),
        "pred_classes": np.zeros(3, np.int64),
        "instances.extra.pairs": values.reshape(3, 2),
        "instances.extra.one": values[:3],
        "extra.table": values.reshape(2, 3),
        "extra.number": values[0].reshape(()),
        "extra.none": values[:0],
    }
    shapes: list[tuple[str, str, tuple[int | None, ...]]] = [
        ("pairs", INSTANCE, (2,)),
        ("one", INSTANCE, ()),
        ("table", IMAGE, (2, None)),
        ("number", IMAGE, ()),
        ("none", IMAGE, (None,)),
    ]
    extras = tuple(Extra(name, per, TENSOR, dtype, shape) for name, per, shape in shapes)
    spec = spec_with(outputs=tuple(raw), extras=extras)
    got = assert_same(replies, raw, prepared(20, 20, (10, 10)), spec)
    assert [len(each["extra"]) for each in got["instances"]] == [2, 2]


def _one(**changes: Any) -> RawOutputs:
    return {
        "pred_boxes": np.array([[1, 1, 5, 5]], np.float32),
        "scores": np.array([0.5], np.float32),
        "pred_classes": np.zeros(1, np.int64),
        **changes,
    }


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("output", ["pred_boxes", "scores", "proposals", "sem_seg", "final"])
def test_what_is_no_number_is_refused(replies: Replies, output: str, number: float) -> None:
    raw = _one()
    if output == "proposals":
        boxes = np.array([[0, 0, 1, number]], np.float32)
        raw = {"proposal_boxes": boxes, "objectness_logits": np.ones(1, np.float32)}
    elif output == "sem_seg":
        raw = {"sem_seg": np.full((1, 8, 8), number, np.float32)}
    else:
        raw["scores" if output == "final" else output].flat[0] = number
    spec = spec_with(outputs=tuple(raw), postprocessed=output == "final")
    image = prepared(16, 16, (8, 8))
    with pytest.raises(ModelFailed) as refused:
        postprocess(raw, image, spec)
    said = replies(raw, image, spec)["error"]
    assert "infinite or not a number" in said
    assert "infinite or not a number" in str(refused.value)


WRONG: list[tuple[RawOutputs, str]] = [
    (_one(scores=np.ones(2, np.float32)), "pred_boxes of the shape [1, 4], expected [2, 4]"),
    (_one(pred_boxes=np.ones((1, 5), np.float32)), "[1, 5], expected [1, 4]"),
    (_one(pred_classes=np.full(1, 80)), "the class 80, but 80 classes have names"),
    (_one(pred_masks=np.ones((1, 28, 28), np.float32)), "expected [1, 1, any, any]"),
    (_one(pred_masks=np.ones((1, 1, 28, 14), np.float32)), "expected [1, 1, 28, 28]"),
    (_one(pred_keypoints=np.ones((1, 17, 2), np.float32)), "expected [1, any, 3]"),
    (_one(pred_keypoint_heatmaps=np.ones((1, 17, 0, 0), np.float32)), "heatmaps with pixels"),
    ({"sem_seg": np.ones((3, 4, 4), np.float32)}, "expected at least the resized image"),
]


@pytest.mark.parametrize(("raw", "said"), WRONG)
def test_outputs_of_wrong_shapes_are_refused(replies: Replies, raw: RawOutputs, said: str) -> None:
    spec = spec_with(outputs=tuple(raw), class_names=NAMES)
    error = replies(raw, prepared(16, 16, (8, 8)), spec)["error"]
    assert said in error
    assert error.endswith(".")


def test_a_segment_that_no_map_of_labels_holds_is_refused(replies: Replies) -> None:
    labels = np.full((16, 16), 2**31 - 1, np.int32)
    raw: RawOutputs = {"panoptic_seg": labels, "segments_info": np.zeros((0, 3), np.int64)}
    spec = spec_with(outputs=tuple(raw), postprocessed=True)
    error = replies(raw, prepared(16, 16, (16, 16)), spec)["error"]
    assert "the label 2147483647 in panoptic_seg, expected 0 to 65535" in error


def test_an_output_that_is_not_there_is_refused(replies: Replies) -> None:
    spec = spec_with(outputs=(*_one(), "pred_masks"))
    error = replies(_one(), prepared(16, 16, (8, 8)), spec)["error"]
    assert error.startswith("The model has not answered pred_masks")
