"""CVAT's function, under the driver of CVAT's own SDK, which checks specs and shapes.

Only the server is a stand-in: frames come from it, and shapes go to it as JSON.
"""

from __future__ import annotations

import importlib
import logging
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cvat_cli._internal.agent_driver_detection import AgentDetectionFunctionDriver
from cvat_sdk.api_client.model_utils import to_json
from cvat_sdk.auto_annotation import BadFunctionError, annotate_task
from cvat_sdk.auto_annotation.driver import _DetectionFunctionContextImpl
from cvat_sdk.masks import decode_mask
from PIL import Image

from d2serve.client.errors import InvalidInput
from d2serve.client.results.polygon_masks import PolygonMask
from d2serve.client.results.prediction import Prediction, parse_prediction
from d2serve.server.annotating.asking import Model
from d2serve.server.annotating.cvat_function import CvatFunction
from tests.engines.reference import Reference
from tests.engines.tools.archives import KEYPOINT_NAMES, Archives
from tests.engines.tools.cvat_server import TASK, Task, client_of

Shape = dict[str, Any]


def _annotated(
    function: CvatFunction, frames: list[Path], folder: Path, **options: Any
) -> tuple[Task, list[list[Shape]]]:
    labels = function.spec.labels
    if options.get("conv_mask_to_poly"):
        labels = CvatFunction(function._model, "polygon").spec.labels
    task = Task(frames, labels)
    with client_of(task, folder) as client:
        annotate_task(client, TASK, function, **options)
    assert all(shape["source"] == "auto" for shape in task.shapes)
    return task, [task.of_frame(frame) for frame in range(len(frames))]


def _answers(model: Model, frames: list[Path]) -> list[Prediction]:
    return [model.predict(frame) for frame in frames]


def _mask(shape: Shape, answer: Prediction) -> Any:
    sides = {"image_width": answer.width, "image_height": answer.height}
    return decode_mask(shape["points"], **sides)


def test_masks_are_those_of_torchserve_pixel_for_pixel(
    reference: Reference, tmp_path: Path
) -> None:
    # As cvat-cli does it: a module by its name, and parameters of text.
    module = importlib.import_module("d2serve.server.annotating.cvat_function")
    function = module.create(archive=str(reference.archive))
    frames = reference.images[:100]
    task, annotated = _annotated(function, frames, tmp_path)
    compared = 0
    for frame, shapes in zip(frames, annotated):
        answer = parse_prediction(reference.answers[frame.name])
        # Of a low score a mask may have no pixel, of which CVAT could show nothing.
        instances = [each for each in answer.instances if each.mask().any()]
        assert len(shapes) == len(instances)
        for shape, instance in zip(shapes, instances):
            assert (task.name_of(shape["label_id"]), shape["type"]) == (instance.label(), "mask")
            assert shape["score"] == pytest.approx(instance.score, abs=1e-7)
            assert np.array_equal(_mask(shape, answer), instance.mask())
            compared += 1
    assert compared > 500


def test_polygons_fill_the_masks_where_cvat_wants_no_masks(
    models: Callable[[str], Model], frames: list[Path], tmp_path: Path
) -> None:
    function = CvatFunction(models("masks"))
    _, annotated = _annotated(function, frames, tmp_path, conv_mask_to_poly=True)
    pieces = 0
    for frame, shapes in zip(frames, annotated):
        answer = models("masks").predict(frame, masks="polygon")
        wanted = [polygon for each in answer.instances for polygon in each.polygons or ()]
        assert {shape["type"] for shape in shapes} <= {"polygon"}
        assert [tuple(shape["points"]) for shape in shapes] == wanted
        pieces += len(shapes)
    assert pieces > 100


def test_pieces_of_an_object_are_a_group(
    models: Callable[[str], Model], frames: list[Path], tmp_path: Path
) -> None:
    _, annotated = _annotated(CvatFunction(models("panoptic"), "polygon"), frames, tmp_path)
    groups = 0
    for frame, shapes in zip(frames, annotated):
        answer = models("panoptic").predict(frame)
        assert answer.panoptic_seg is not None
        labels = answer.panoptic_seg.label_map()
        for group in {shape["group"] for shape in shapes if "group" in shape}:
            members = [shape for shape in shapes if shape.get("group") == group]
            segment = answer.panoptic_seg.segments_info[group - 1]
            assert len(members) > 1
            polygons = tuple(tuple(shape["points"]) for shape in members)
            filled = PolygonMask(answer.height, answer.width, polygons).decode()
            assert filled[labels == segment.id].all()
            groups += 1
    assert groups > 4


@pytest.mark.parametrize("kind", ["masks", "keypoints"])
def test_boxes(
    kind: str, models: Callable[[str], Model], frames: list[Path], tmp_path: Path
) -> None:
    task, annotated = _annotated(CvatFunction(models(kind), "rectangle"), frames, tmp_path)
    compared = 0
    for answer, shapes in zip(_answers(models(kind), frames), annotated):
        assert len(shapes) == len(answer.instances)
        for shape, instance in zip(shapes, answer.instances):
            assert task.name_of(shape["label_id"]) == instance.label()
            assert shape["points"] == pytest.approx(instance.bbox, abs=1e-4)
            assert shape["rotation"] == 0
            compared += 1
    assert compared > 100


def test_rotated_boxes_have_the_corners_of_the_answer(
    models: Callable[[str], Model], frames: list[Path], tmp_path: Path
) -> None:
    _, annotated = _annotated(CvatFunction(models("rotated")), frames, tmp_path)
    turned = 0
    for answer, shapes in zip(_answers(models("rotated"), frames), annotated):
        assert len(shapes) == len(answer.instances)
        for shape, instance in zip(shapes, answer.instances):
            assert np.allclose(_turned(shape), instance.corners(), atol=1e-3)
            turned += shape["rotation"] % 90 > 1
    assert turned > 50


def _turned(shape: Shape) -> Any:
    """The corners as CVAT draws them: turned clockwise around the centre."""
    x0, y0, x1, y1 = shape["points"]
    centre = np.array([(x0 + x1) / 2, (y0 + y1) / 2])
    angle = np.radians(shape["rotation"])
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    corners = np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)]) - centre
    return corners @ turn.T + centre


def test_keypoints_are_skeletons(
    models: Callable[[str], Model], frames: list[Path], tmp_path: Path
) -> None:
    function = CvatFunction(models("keypoints"), None, KEYPOINT_NAMES)
    task, annotated = _annotated(function, frames, tmp_path)
    names = {point["id"]: point["name"] for label in task.labels for point in label["sublabels"]}
    compared = 0
    for answer, shapes in zip(_answers(models("keypoints"), frames), annotated):
        assert len(shapes) == len(answer.instances)
        for shape, instance in zip(shapes, answer.instances):
            assert shape["type"] == "skeleton"
            points = shape["elements"]
            assert [names[point["label_id"]] for point in points] == list(KEYPOINT_NAMES)
            found = [point["points"] for point in points]
            wanted = [[x, y] for x, y, _ in instance.keypoints or ()]
            assert np.allclose(found, wanted, atol=1e-4)
            compared += len(points)
    assert compared > 500


def test_a_panoptic_map_is_a_mask_for_each_segment(
    models: Callable[[str], Model], frames: list[Path], tmp_path: Path
) -> None:
    task, annotated = _annotated(CvatFunction(models("panoptic")), frames, tmp_path)
    assert {label["name"] for label in task.labels} >= {"circle", "grass"}
    assert "things" not in {label["name"] for label in task.labels}
    for answer, shapes in zip(_answers(models("panoptic"), frames), annotated):
        assert answer.panoptic_seg is not None
        painted = np.zeros((answer.height, answer.width), np.int32)
        segments = answer.panoptic_seg.segments_info
        assert len(shapes) == len(segments) > 1
        for shape, segment in zip(shapes, segments):
            assert task.name_of(shape["label_id"]) == segment.label()
            assert ("score" in shape) == segment.isthing
            painted[_mask(shape, answer)] = segment.id
        assert np.array_equal(painted, answer.panoptic_seg.label_map())


def test_a_semantic_map_is_a_mask_for_each_class(
    models: Callable[[str], Model], frames: list[Path], tmp_path: Path
) -> None:
    task, annotated = _annotated(CvatFunction(models("semantic")), frames, tmp_path)
    numbers = {name: i for i, name in enumerate(models("semantic").about.stuff_class_names)}
    for answer, shapes in zip(_answers(models("semantic"), frames), annotated):
        assert answer.sem_seg is not None
        painted = np.full((answer.height, answer.width), -1, np.int32)
        for shape in shapes:
            painted[_mask(shape, answer)] = numbers[task.name_of(shape["label_id"])]
        assert np.array_equal(painted, answer.sem_seg.label_map())


def test_the_threshold_of_cvat_includes_itself(
    models: Callable[[str], Model], frames: list[Path], tmp_path: Path
) -> None:
    model = models("masks")
    scores = sorted(each.score for frame in frames for each in model.predict(frame).instances)
    threshold = scores[len(scores) // 2]
    _, annotated = _annotated(CvatFunction(model), frames, tmp_path, conf_threshold=threshold)
    kept = sorted(shape["score"] for shapes in annotated for shape in shapes)
    assert kept == pytest.approx([score for score in scores if score >= threshold])
    assert 50 < len(kept) < len(scores)


def test_a_task_that_lacks_a_label_gets_the_others_if_it_may(
    models: Callable[[str], Model], frames: list[Path], tmp_path: Path
) -> None:
    function = CvatFunction(models("masks"))
    task = Task(frames[:5], function.spec.labels[:1])
    with client_of(task, tmp_path) as client:
        with pytest.raises(BadFunctionError, match="is not in dataset"):
            annotate_task(client, TASK, function)
        annotate_task(client, TASK, function, allow_unmatched_labels=True)
    found = [each for frame in frames[:5] for each in models("masks").predict(frame).instances]
    assert 0 < len(task.shapes) < len(found)
    assert len(task.shapes) == sum(each.label() == "circle" for each in found)


def test_an_agent_takes_it_to_another_process(
    models: Callable[[str], Model], frames: list[Path]
) -> None:
    function = CvatFunction(models("keypoints"), None, KEYPOINT_NAMES)
    told = AgentDetectionFunctionDriver.get_remote_function_fields(function.spec)["labels_v2"]
    assert [label["name"] for label in told] == ["circle", "rectangle", "triangle"]
    for label in told:
        assert label["type"] == "skeleton"
        assert [point["name"] for point in label["sublabels"]] == list(KEYPOINT_NAMES)
    context = _DetectionFunctionContextImpl(frame_name="a.jpg", conf_threshold=0.5)
    with Image.open(frames[0]) as image:
        shapes = function.detect(context, image)
    assert len(shapes) > 2
    assert to_json(pickle.loads(pickle.dumps(shapes))) == to_json(shapes)


def test_what_is_not_shown_is_said(
    models: Callable[[str], Model], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        CvatFunction(models("keypoints"), None, KEYPOINT_NAMES)
    assert "counts as visible" in caplog.text


def test_a_shape_that_the_model_cannot_give(models: Callable[[str], Model]) -> None:
    with pytest.raises(InvalidInput, match=r"'skeleton', expected .* mask, polygon, rectangle"):
        CvatFunction(models("masks"), "skeleton")


def test_proposals_have_no_labels(models: Callable[[str], Model]) -> None:
    with pytest.raises(InvalidInput, match="has no class, and labels are classes"):
        CvatFunction(models("proposals"))


def test_skeletons_need_names(models: Callable[[str], Model], frames: list[Path]) -> None:
    with pytest.raises(InvalidInput, match="keypoints=str:nose"):
        CvatFunction(models("keypoints"))
    function = CvatFunction(models("keypoints"), None, ["nose", "tail"])
    context = _DetectionFunctionContextImpl(frame_name="a.jpg")
    with pytest.raises(InvalidInput, match=r"a\.jpg cannot be annotated: .* 5 keypoints, and 2"):
        function.detect(context, Image.open(frames[0]))


def test_a_frame_that_the_model_refuses_is_named(models: Callable[[str], Model]) -> None:
    function = CvatFunction(models("masks"))
    context = _DetectionFunctionContextImpl(frame_name="wide.png")
    with pytest.raises(InvalidInput, match=r"wide\.png cannot be annotated"):
        function.detect(context, Image.new("L", (60_000, 1000)))


def test_an_archive_and_an_address_are_not_given_together(archives: Archives) -> None:
    module = importlib.import_module("d2serve.server.annotating.cvat_function")
    with pytest.raises(InvalidInput, match="expected one of them"):
        module.create(archive=str(archives("masks")), address="http://127.0.0.1:8080")
    with pytest.raises(InvalidInput, match="expected one of them"):
        module.create()
