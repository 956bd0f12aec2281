"""FiftyOne's model, applied to data sets of FiftyOne's; only their database is a stand-in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fiftyone as fo
import fiftyone.core.labels as fol
import fiftyone.core.models as fom
import numpy as np
import pytest

from d2serve.client.results.prediction import parse_prediction
from d2serve.server.annotating.asking import Model
from d2serve.server.annotating.fiftyone_model import FiftyOneModel
from tests.engines.reference import Reference
from tests.engines.tools.fiftyone_database import database_in_memory


@pytest.fixture(scope="module", autouse=True)
def _database() -> Iterator[None]:
    with database_in_memory():
        yield


def _applied(
    model: FiftyOneModel, frames: list[Path], batch: int | None = None, **options: Any
) -> list[dict[str, Any]]:
    """The labels of each frame's sample, once the model was applied to a data set of them."""
    dataset = fo.Dataset()
    dataset.add_samples([fo.Sample(filepath=str(frame)) for frame in frames], progress=False)
    before = set(dataset.get_field_schema())
    dataset.apply_model(model, label_field="found", batch_size=batch, progress=False, **options)
    fields = set(dataset.get_field_schema()) - before
    assert [sample.filepath for sample in dataset] == [str(frame) for frame in frames]
    labels = [{field: sample[field] for field in fields} for sample in dataset]
    dataset.delete()
    return labels


@pytest.mark.parametrize("batch", [None, 7])
def test_masks_are_those_of_torchserve_pixel_for_pixel(
    batch: int | None, reference: Reference, models: Callable[[str], Model]
) -> None:
    model = FiftyOneModel(models("masks"))
    assert isinstance(model, fom.Model)
    assert (model.media_type, model.ragged_batches, model.transforms) == ("image", False, None)
    frames, compared = reference.images[:40], 0
    for frame, labels in zip(frames, _applied(model, frames, batch)):
        answer = parse_prediction(reference.answers[frame.name])
        size = answer.width, answer.height
        found = labels["found"]
        assert isinstance(found, fol.Detections)
        assert len(found.detections) == len(answer.instances)
        for detection, instance in zip(found.detections, answer.instances):
            assert detection.label == instance.label()
            assert detection.confidence == pytest.approx(instance.score)
            rendered = detection.to_segmentation(frame_size=size).mask > 0
            assert np.array_equal(rendered, instance.mask())
            own = np.array(detection.model_box).reshape(2, 2) * size
            assert np.allclose(np.concatenate([own[0], own.sum(axis=0)]), instance.bbox, atol=1e-3)
            x, y, width, height = np.array(detection.bounding_box) * (size * 2)
            x0, y0, x1, y1 = instance.bbox
            around = np.array([x0 - x, y0 - y, x + width - x1, y + height - y1])
            assert (around > -1e-3).all()
            assert (around < 2).all()
            compared += 1
    assert compared > 200


def test_boxes_alone_are_the_models_own(models: Callable[[str], Model], frames: list[Path]) -> None:
    model = FiftyOneModel(models("masks"), masks="none", score_thresh=0.5)
    compared = 0
    for frame in frames:
        pixels = fom.foui.read(str(frame))
        answer = models("masks").predict(pixels, score_thresh=0.5)
        found = model.predict(pixels)
        assert isinstance(found, fol.Detections)
        for detection, instance in zip(found.detections, answer.instances):
            assert detection.mask is None
            x, y, width, height = detection.bounding_box
            corners = np.array([x, y, x + width, y + height])
            assert np.allclose(corners * ([answer.width, answer.height] * 2), instance.bbox)
            compared += 1
        assert len(found.detections) == len(answer.instances)
    assert compared > 70


def test_keypoints(models: Callable[[str], Model], frames: list[Path]) -> None:
    model = FiftyOneModel(models("keypoints"))
    compared = 0
    for frame, labels in zip(frames, _applied(model, frames)):
        answer = models("keypoints").predict(frame)
        found = labels["found_keypoints"]
        assert isinstance(found, fol.Keypoints)
        assert isinstance(labels["found_instances"], fol.Detections)
        assert len(found.keypoints) == len(answer.instances)
        for keypoint, instance in zip(found.keypoints, answer.instances):
            wanted = np.array(instance.keypoints)
            places = np.array(keypoint.points) * (answer.width, answer.height)
            assert np.allclose(places, wanted[:, :2])
            assert np.allclose(keypoint.confidence, wanted[:, 2])
            compared += len(wanted)
    assert compared > 500


def test_rotated_boxes_are_polylines(models: Callable[[str], Model], frames: list[Path]) -> None:
    compared = 0
    model = FiftyOneModel(models("rotated"))
    for frame, labels in zip(frames, _applied(model, frames)):
        answer = models("rotated").predict(frame)
        found = labels["found"]
        assert isinstance(found, fol.Polylines)
        assert len(found.polylines) == len(answer.instances)
        for line, instance in zip(found.polylines, answer.instances):
            (points,) = line.points
            places = np.array(points) * (answer.width, answer.height)
            assert np.allclose(places, instance.corners())
            assert line.closed
            compared += 1
    assert compared > 100


def test_panoptic_and_semantic_maps(models: Callable[[str], Model], frames: list[Path]) -> None:
    model = FiftyOneModel(models("panoptic"))
    for frame, labels in zip(frames, _applied(model, frames)):
        answer = models("panoptic").predict(frame)
        assert answer.panoptic_seg is not None
        assert answer.sem_seg is not None
        assert set(labels) == {"found_instances", "found_sem_seg", "found_panoptic"}
        assert np.array_equal(labels["found_sem_seg"].mask, answer.sem_seg.label_map())
        painted = np.zeros((answer.height, answer.width), np.uint8)
        segments = answer.panoptic_seg.segments_info
        found = labels["found_panoptic"].detections
        assert len(found) == len(segments) > 1
        for detection, segment in zip(found, segments):
            assert (detection.label, detection.isthing) == (segment.label(), segment.isthing)
            detection.to_segmentation(mask=painted, target=segment.id)
        assert np.array_equal(painted, answer.panoptic_seg.label_map())
    semantic = FiftyOneModel(models("semantic"))
    found = semantic.predict(fom.foui.read(str(frames[0])))
    wanted = models("semantic").predict(frames[0]).sem_seg
    assert isinstance(found, fol.Segmentation)
    assert wanted is not None
    assert np.array_equal(found.mask, wanted.label_map())
    names = {each.category_id: each.label() for each in wanted.classes}
    assert names.items() <= semantic.mask_targets.items()


def test_fiftyones_own_threshold_and_classes(
    models: Callable[[str], Model], frames: list[Path]
) -> None:
    options: dict[str, Any] = {"confidence_thresh": 0.5, "classes": ["circle"]}
    compared = 0
    for frame, labels in zip(frames, _applied(FiftyOneModel(models("masks")), frames, **options)):
        answer = models("masks").predict(frame)
        wanted = [e.score for e in answer.instances if e.score >= 0.5 and e.label() == "circle"]
        found = [each.confidence for each in labels["found"].detections]
        assert found == pytest.approx(wanted)
        compared += len(found)
    assert compared > 20


def test_the_type_of_a_field_is_the_models(models: Callable[[str], Model]) -> None:
    nothing = np.zeros((60, 80, 3), np.uint8)
    kinds = {"masks": fol.Detections, "rotated": fol.Polylines, "proposals": fol.Detections}
    for kind, label in kinds.items():
        assert type(FiftyOneModel(models(kind)).predict(nothing)) is label
    found = FiftyOneModel(models("keypoints")).predict(nothing)
    assert isinstance(found, dict)
    assert set(found) == {"instances", "keypoints"}
