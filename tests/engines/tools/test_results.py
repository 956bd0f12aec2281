"""Predictions as supervision's and pandas's own types, of what real models answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import supervision as sv
from PIL import Image

from d2serve.client.errors import InvalidInput
from d2serve.client.results.prediction import Prediction, parse_prediction
from d2serve.client.results.segments import SemSeg
from tests.client.handmade import (
    instance,
    panoptic_seg,
    prediction,
    proposal,
    sem_seg,
    stuff,
    thing,
)
from tests.conftest import ROOT
from tests.engines.reference import Reference

SIZE = 24, 32
LABELS = np.arange(24 * 32).reshape(SIZE) // 100


@pytest.fixture(scope="session")
def answered(reference: Reference) -> list[Prediction]:
    """Of the first 40 images, with some hundred instances."""
    names = [image.name for image in reference.images[:40]]
    found = [parse_prediction(reference.answers[name]) for name in names]
    assert sum(len(each.instances) for each in found) > 100
    return found


def test_instances_in_supervision(answered: list[Prediction]) -> None:
    for said in answered:
        detections = said.to_supervision()
        assert isinstance(detections, sv.Detections)
        assert len(detections) == len(said.instances)
        for i, each in enumerate(said.instances):
            np.testing.assert_array_equal(detections.xyxy[i], np.array(each.bbox, np.float32))
            np.testing.assert_array_equal(detections.mask[i], each.mask())
            assert detections.confidence[i] == np.float32(each.score)
            assert detections.class_id[i] == each.category_id
            assert detections["class_name"][i] == each.category_name


def test_they_can_be_filtered_merged_and_drawn(
    answered: list[Prediction], reference: Reference
) -> None:
    said = answered[0]
    other = next(p for p in answered[1:] if (p.height, p.width) == (said.height, said.width))
    merged = sv.Detections.merge([said.to_supervision(), other.to_supervision()])
    assert len(merged) == len(said.instances) + len(other.instances)
    best = said.to_supervision()
    best = best[best.confidence > 0.5]
    assert 0 < len(best) <= len(said.instances)
    scene = np.asarray(Image.open(reference.images[0]).convert("RGB"))
    for annotator in (sv.BoxAnnotator(), sv.MaskAnnotator(), sv.LabelAnnotator()):
        assert (annotator.annotate(scene.copy(), best) != scene).any()


def test_a_rotated_box_has_the_box_around_it_and_its_corners() -> None:
    said = prediction(*SIZE, instances=[instance(3, 10, 12, 8, 4, 90)])
    detections = said.to_supervision()
    np.testing.assert_allclose(detections.xyxy, [[8, 8, 12, 16]], atol=1e-5)
    np.testing.assert_allclose(detections["xyxyxyxy"][0], said.instances[0].corners(), atol=1e-5)


def test_label_maps_are_a_detection_for_each_class_or_segment() -> None:
    ids = LABELS + 1
    segments = [thing(ids, 1), *(stuff(ids, n, n) for n in range(2, 9))]
    said = prediction(
        *SIZE,
        instances=[instance(0, 1, 2, 3, 4)],
        sem_seg=sem_seg(LABELS),
        panoptic_seg=panoptic_seg(ids, *segments),
        proposals=[proposal(3.5, 1, 2, 3, 4)],
    )
    assert isinstance(said.sem_seg, SemSeg)
    classes = said.to_supervision("sem_seg")
    assert classes.class_id.tolist() == list(range(8))
    np.testing.assert_array_equal(
        (classes.mask * (1 + classes.class_id)[:, None, None]).sum(0), ids
    )
    np.testing.assert_array_equal(classes.xyxy, np.add(sv.mask_to_xyxy(classes.mask), (0, 0, 1, 1)))
    segmented = said.to_supervision("panoptic_seg")
    assert segmented["isthing"].tolist() == [True] + [False] * 7
    np.testing.assert_array_equal(
        (segmented.mask * segmented["segment_id"][:, None, None]).sum(0), ids
    )
    assert said.to_supervision("proposals")["objectness_logit"].tolist() == [3.5]
    assert prediction(*SIZE, sem_seg=sem_seg(LABELS)).to_supervision().class_id.size == 8


@pytest.mark.parametrize("kind", ["instances", "proposals"])
def test_nothing_found_is_empty(kind: str) -> None:
    nothing: dict[str, Any] = {"instances": [], kind: []}
    said = prediction(*SIZE, **nothing)
    assert len(said.to_supervision(kind)) == 0
    assert len(said.to_pandas(kind)) == 0
    assert len(said.to_supervision_key_points()) == 0


def test_key_points() -> None:
    points = [[1.5, 2.0, 0.25], [3.0, 4.0, 0.5]]
    found = [instance(n, 1, 2, 3, 4, keypoints=points, category_name="hat") for n in range(3)]
    key_points = prediction(*SIZE, instances=found).to_supervision_key_points()
    assert isinstance(key_points, sv.KeyPoints)
    np.testing.assert_array_equal(key_points.xy, np.array([points] * 3)[..., :2])
    np.testing.assert_array_equal(key_points.keypoint_confidence, [[0.25, 0.5]] * 3)
    assert key_points.data["class_name"].tolist() == ["hat"] * 3
    scene = np.zeros((*SIZE, 3), np.uint8)
    assert sv.VertexAnnotator().annotate(scene, key_points).any()
    with pytest.raises(InvalidInput, match="expected one of a keypoint model"):
        prediction(*SIZE, instances=[instance(0, 1, 2, 3, 4)]).to_supervision_key_points()


def test_pandas_holds_what_pyarrow_does(answered: list[Prediction], tmp_path: Path) -> None:
    frames = [said.to_pandas() for said in answered]
    for said, frame in zip(answered, frames):
        assert frame.to_dict("records") == said.to_arrow().to_pylist()
    whole = pd.concat(frames, keys=[f"{n}.jpg" for n in range(len(frames))])
    assert len(whole) == sum(len(each.instances) for each in answered)
    assert whole["score"].dtype == np.float64
    assert whole["category_id"].dtype == np.int64
    whole.to_parquet(tmp_path / "found.parquet")
    again = pd.read_parquet(tmp_path / "found.parquet")
    assert again["segmentation"].iloc[0]["counts"] == whole["segmentation"].iloc[0]["counts"]


def test_what_the_page_says(answered: list[Prediction]) -> None:
    section = (
        (ROOT / "docs" / "requests.md").read_text().split("### A prediction in other tools")[1]
    )
    found: dict[str, Any] = {"prediction": answered[0], "print": lambda _: None}
    exec(section.split("```python\n")[1].split("```")[0], found)
    assert 0 < len(found["big"]) <= len(answered[0].instances)
    assert len(found["table"]) == found["columns"].num_rows == len(answered[0].instances)
