"""Label Studio's backend over HTTP, its predictions read with Label Studio's own SDK."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from label_studio_sdk.converter import Converter
from label_studio_sdk.converter.brush import decode_rle, mask2rle
from label_studio_sdk.converter.utils import convert_annotation_to_yolo_obb
from label_studio_sdk.label_interface import LabelInterface
from pycocotools import mask as coco_mask

from d2serve.client.results.polygon_masks import PolygonMask
from d2serve.client.results.prediction import Prediction, parse_prediction
from d2serve.server.annotating.asking import Model
from d2serve.server.annotating.brush_rle import encode_brush
from d2serve.server.annotating.label_studio import LabelStudioBackend
from d2serve.server.annotating.label_studio_server import LabelStudioServer
from d2serve.server.annotating.task_images import TaskImages
from tests.engines.reference import Reference
from tests.engines.tools.archives import KEYPOINT_NAMES

Result = dict[str, Any]

_THINGS = '<Label value="circle"/><Label value="Box" predicted_values="rectangle"/>'
_THINGS += '<Label value="triangle"/>'
_STUFF = "".join(f'<Label value="{name}"/>' for name in ("brick", "grass", "gravel"))
_POINTS = "".join(
    f'<Label value="{name}" model_index="{i}"/>' for i, name in enumerate(KEYPOINT_NAMES)
)


def _config(*tags: str) -> str:
    labels = {"KeyPointLabels": _POINTS}
    inside = "".join(
        f'<{tag} name="{tag}" toName="img">{labels.get(tag, _THINGS + _STUFF)}</{tag}>'
        for tag in tags
    )
    return f'<View><Image name="img" value="$image"/>{inside}</View>'


@contextmanager
def _running(model: Model) -> Iterator[httpx.Client]:
    backend = LabelStudioBackend(model, TaskImages(model.about.most_image_bytes))
    with LabelStudioServer(backend, "127.0.0.1", 0) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            with httpx.Client(base_url=server.address, trust_env=False, timeout=120) as client:
                yield client
        finally:
            server.shutdown()
            thread.join()


def _predicted(model: Model, frames: list[Path], *tags: str) -> list[Result]:
    """The predictions for the frames, each valid by the SDK."""
    config = _config(*tags)
    interface = LabelInterface(config)
    predictions: list[Result] = []
    with _running(model) as client:
        assert client.get("/health").json()["status"] == "UP"
        for frame in frames:
            data = "data:image/jpeg;base64," + base64.b64encode(frame.read_bytes()).decode()
            task = {"id": 1, "data": {"image": data}}
            question = {"tasks": [task], "label_config": config, "project": "1.1", "params": {}}
            answer = client.post("/predict", json=question)
            assert answer.status_code == 200, answer.text
            (prediction,) = answer.json()["results"]
            assert interface.validate_prediction(prediction, return_errors=True) == []
            assert len({each["id"] for each in prediction["result"]}) == len(prediction["result"])
            predictions.append(prediction)
    return predictions


def _of(prediction: Result, tag: str) -> list[Result]:
    return [each for each in prediction["result"] if each["from_name"] == tag]


def _label(name: str) -> str:
    return "Box" if name == "rectangle" else name


def _brush(result: Result) -> Any:
    height, width = result["original_height"], result["original_width"]
    painted = decode_rle(result["value"]["rle"]).reshape(height, width, 4)
    assert set(np.unique(painted)) <= {0, 255}
    assert (painted == painted[:, :, :1]).all()
    return painted[:, :, 3] > 0


def test_brushes_are_torchserves_masks_pixel_for_pixel(
    reference: Reference, models: Callable[[str], Model]
) -> None:
    frames, compared = reference.images[:30], 0
    for frame, prediction in zip(frames, _predicted(models("masks"), frames, "BrushLabels")):
        answer = parse_prediction(reference.answers[frame.name])
        instances = [each for each in answer.instances if each.mask().any()]
        assert len(prediction["result"]) == len(instances)
        for result, instance in zip(prediction["result"], instances):
            assert result["value"]["brushlabels"] == [_label(instance.label())]
            assert result["score"] == pytest.approx(instance.score)
            assert np.array_equal(_brush(result), instance.mask())
            compared += 1
        mean = np.mean([each.score for each in instances]) if instances else 0
        assert prediction["score"] == pytest.approx(mean)
        assert prediction["model_version"] == "mask_rcnn_fpn-1.0"
    assert compared > 150


def test_brushes_have_the_bytes_of_the_sdk(
    models: Callable[[str], Model], frames: list[Path]
) -> None:
    compared = 0
    for frame in frames[:5]:
        for instance in models("masks").predict(frame).instances:
            mask = instance.mask()
            ours, theirs = encode_brush(mask), mask2rle(mask.astype(np.uint8) * 255)
            assert theirs in (ours, [*ours, 0])  # it fills a whole byte where none is needed
            compared += 1
    assert compared > 20
    for mask in (np.zeros((3, 5), np.bool_), np.ones((300, 400), np.bool_)):
        assert mask2rle(mask.astype(np.uint8) * 255) in (
            encode_brush(mask),
            [*encode_brush(mask), 0],
        )


def test_polygons_fill_the_masks(models: Callable[[str], Model], frames: list[Path]) -> None:
    compared = 0
    for frame, prediction in zip(frames, _predicted(models("masks"), frames, "PolygonLabels")):
        answer = models("masks").predict(frame, masks="polygon")
        wanted = [polygon for each in answer.instances for polygon in each.polygons or ()]
        sides = np.array([answer.width, answer.height])
        for result, polygon in zip(prediction["result"], wanted):
            points = np.array(result["value"]["points"]) / 100 * sides
            assert np.allclose(points.ravel(), polygon, atol=1e-9)
        assert len(prediction["result"]) == len(wanted)
        compared += len(wanted)
    assert compared > 100


def test_rotated_boxes_turn_around_a_corner_in_the_image(
    models: Callable[[str], Model], frames: list[Path]
) -> None:
    turned = left_out = 0
    for frame, prediction in zip(frames, _predicted(models("rotated"), frames, "RectangleLabels")):
        answer = models("rotated").predict(frame)
        results = iter(prediction["result"])
        for instance in answer.instances:
            corners = instance.corners()
            inside = (corners >= 0) & (corners <= (answer.width, answer.height))
            if not inside.all(axis=1).any():  # of the sides, one may be longer than the image's
                left_out += 1
                continue
            result = next(results)
            found = convert_annotation_to_yolo_obb({**result, **result["value"]}, False)
            distances = np.linalg.norm(np.array(found)[:, None] - corners[None], axis=2)
            assert distances.min(axis=0).max() < 1e-2
            assert sorted(distances.argmin(axis=0)) == [0, 1, 2, 3]
            turned += result["value"]["rotation"] % 90 > 1
        assert next(results, None) is None
    assert turned > 50 > 10 > left_out


def test_keypoints_are_parts_of_boxes(models: Callable[[str], Model], frames: list[Path]) -> None:
    tags = ("KeyPointLabels", "RectangleLabels")
    compared = 0
    for frame, prediction in zip(frames, _predicted(models("keypoints"), frames, *tags)):
        answer = models("keypoints").predict(frame)
        boxes, points = _of(prediction, "RectangleLabels"), _of(prediction, "KeyPointLabels")
        assert len(boxes) == len(answer.instances)
        for box, instance in zip(boxes, answer.instances):
            of_box = [each for each in points if each["parentID"] == box["id"]]
            names = [each["value"]["keypointlabels"][0] for each in of_box]
            assert names == list(KEYPOINT_NAMES)
            for result, (x, y, score) in zip(of_box, instance.keypoints or ()):
                found = result["value"]["x"] * answer.width, result["value"]["y"] * answer.height
                assert found == pytest.approx((x * 100, y * 100))
                assert result["score"] == pytest.approx(score)
                compared += 1
    assert compared > 500


def test_a_panoptic_map_is_a_brush_for_each_segment(
    models: Callable[[str], Model], frames: list[Path]
) -> None:
    for frame, prediction in zip(
        frames[:8], _predicted(models("panoptic"), frames[:8], "BrushLabels", "RectangleLabels")
    ):
        answer = models("panoptic").predict(frame)
        assert answer.panoptic_seg is not None
        segments = answer.panoptic_seg.segments_info
        brushes = _of(prediction, "BrushLabels")
        painted = np.zeros((answer.height, answer.width), np.int32)
        assert len(brushes) == len(segments) > 1
        for brush, segment in zip(brushes, segments):
            assert brush["value"]["brushlabels"] == [_label(segment.label())]
            painted[_brush(brush)] = segment.id
        assert np.array_equal(painted, answer.panoptic_seg.label_map())
        assert len(_of(prediction, "RectangleLabels")) == len(answer.instances)


def test_a_semantic_map_is_a_brush_for_each_class(
    models: Callable[[str], Model], frames: list[Path]
) -> None:
    names = models("semantic").about.stuff_class_names
    for frame, prediction in zip(
        frames[:8], _predicted(models("semantic"), frames[:8], "BrushLabels")
    ):
        answer = models("semantic").predict(frame)
        assert answer.sem_seg is not None
        painted = np.full((answer.height, answer.width), -1, np.int32)
        for brush in prediction["result"]:
            (label,) = brush["value"]["brushlabels"]
            painted[_brush(brush)] = names.index("rectangle" if label == "Box" else label)
        assert np.array_equal(painted, answer.sem_seg.label_map())


@pytest.mark.parametrize("tag", ["RectangleLabels", "PolygonLabels"])
def test_the_sdk_exports_what_was_found_as_coco(
    tag: str, models: Callable[[str], Model], frames: list[Path], tmp_path: Path
) -> None:
    predictions = _predicted(models("masks"), frames, tag)
    # As if a person had accepted them.
    tasks = [
        {"id": i, "data": {"image": str(frame)}, "annotations": [{"id": i, **prediction}]}
        for i, (frame, prediction) in enumerate(zip(frames, predictions))
    ]
    exported = tmp_path / "tasks.json"
    exported.write_text(json.dumps(tasks), encoding="utf-8")
    converter = Converter(_config(tag), str(tmp_path), download_resources=False)
    converter.convert_to_coco(str(exported), str(tmp_path / "coco"), is_dir=False)
    coco = json.loads((tmp_path / "coco" / "result.json").read_text(encoding="utf-8"))
    names = {each["id"]: each["name"] for each in coco["categories"]}
    compared = 0
    for number, frame in enumerate(frames):
        answer = models("masks").predict(frame, masks="polygon")
        found = [each for each in coco["annotations"] if each["image_id"] == number]
        wanted = _boxes(answer) if tag == "RectangleLabels" else _outlines(answer)
        assert [names[each["category_id"]] for each in found] == [name for name, _ in wanted]
        for each, (_, place) in zip(found, wanted):
            if tag == "RectangleLabels":
                assert each["bbox"] == pytest.approx(place, abs=1e-6)
            else:
                (outline,) = each["segmentation"]
                mask = PolygonMask(answer.height, answer.width, (tuple(outline),))
                assert np.array_equal(mask.decode(), coco_mask.decode(place))
            compared += 1
    assert compared > 100


def _boxes(answer: Prediction) -> list[tuple[str, Any]]:
    return [
        (_label(each.label()), (x0, y0, x1 - x0, y1 - y0))
        for each in answer.instances
        for x0, y0, x1, y1 in [each.bbox]
    ]


def _outlines(answer: Prediction) -> list[tuple[str, Any]]:
    return [
        (_label(each.label()), PolygonMask(answer.height, answer.width, (polygon,)).rle())
        for each in answer.instances
        for polygon in each.polygons or ()
    ]
