"""What was found, as the results of a prediction of Label Studio.

Places are in percent of the image's sides. A box is turned clockwise around its upper left corner,
and not around its centre as detectron2 has it.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from d2serve.client.results.instances import Instance
from d2serve.client.results.prediction import Prediction
from d2serve.server.annotating.brush_rle import encode_brush
from d2serve.server.annotating.label_config import (
    BRUSHES,
    KEYPOINTS,
    POLYGONS,
    RECTANGLES,
    Control,
)
from d2serve.server.annotating.regions import (
    Region,
    areas_of,
    instances_of,
    named_keypoints,
    rectangle,
)

Result = dict[str, Any]

_POINT_SIZE = 0.5
"""The width of a keypoint's mark, in percent of the image's."""
_LEAST, _MOST = -1e-6, 100 + 1e-6
"""In percent, with what rounding adds."""


def needs_masks(controls: Sequence[Control]) -> bool:
    """Whether any of these results is made of masks."""
    return any(control.kind in (BRUSHES, POLYGONS) for control in controls)


def results_of(prediction: Prediction, controls: Sequence[Control]) -> list[Result]:
    """The results of all tags; what a tag has no label for is left out.

    Raises:
        ValueError: a tag of keypoints has another number of labels than the model has keypoints.
        MalformedReply: a label map cannot be unpacked.
    """
    # Keypoints last: each is a part of the box of its instance, where boxes are drawn.
    in_order = sorted(controls, key=lambda control: control.kind == KEYPOINTS)
    has_boxes = any(control.kind == RECTANGLES for control in controls)
    boxes: dict[int, str] = {}
    found: list[Result] = []
    for control in in_order:
        for region in _regions(prediction, control):
            if control.kind == KEYPOINTS:
                if has_boxes and id(region.instance) not in boxes:
                    continue  # of a class without a label
                found += _keypoints(region, control, prediction, boxes)
            elif (label := control.labels.get(region.label)) is not None:
                made = list(_shapes(region, control, label, prediction))
                if made and control.kind == RECTANGLES and region.instance is not None:
                    boxes[id(region.instance)] = made[0]["id"]
                found += made
    return found


def score_of(results: Sequence[Result]) -> float:
    """The mean score of regions, by which Label Studio sorts tasks; 0 of none."""
    scores = [result["score"] for result in results if "score" in result]
    return float(np.mean(scores)) if scores else 0.0


def _regions(prediction: Prediction, control: Control) -> Iterator[Region]:
    if control.kind not in (BRUSHES, POLYGONS):
        return instances_of(prediction)
    if prediction.panoptic_seg is not None or prediction.sem_seg is not None:
        return areas_of(prediction)
    return (each for each in instances_of(prediction) if _has_mask(each))


def _has_mask(region: Region) -> bool:
    return region.instance is not None and region.instance.segmentation is not None


def _shapes(
    region: Region, control: Control, label: str, prediction: Prediction
) -> Iterator[Result]:
    if control.kind == BRUSHES:
        mask = region.mask()
        if mask.any():
            value: Result = {"format": "rle", "rle": encode_brush(mask)}
            yield _result(region, control, label, prediction, value)
    elif control.kind == POLYGONS:
        for outline in region.outlines():
            points = _percent(np.reshape(outline, (-1, 2)), prediction)
            value = {"points": points, "closed": True}
            yield _result(region, control, label, prediction, value)
    elif region.instance is not None:
        box = _box(region.instance, prediction)
        if box is not None:
            yield _result(region, control, label, prediction, box)


def _box(instance: Instance, prediction: Prediction) -> Result | None:
    """The box, turned around a corner that lies in the image; None where there is none.

    Label Studio takes places from 0 to 100 percent only. A rotated box reaches beyond the image
    where the object does, but is the same box when it is turned around another of its corners.
    """
    box, corners = rectangle(instance), instance.corners()
    quarters = 4 if box.clockwise else 1
    for quarter in range(quarters):
        ((x, y),) = _percent(corners[quarter][None], prediction)
        sides = (box.width, box.height) if quarter % 2 == 0 else (box.height, box.width)
        width, height = sides[0] / prediction.width * 100, sides[1] / prediction.height * 100
        if all(_LEAST <= each <= _MOST for each in (x, y, width, height)):
            turned = (box.clockwise + 90 * quarter) % 360
            value = {"x": x, "y": y, "width": width, "height": height}
            inside = {name: min(max(each, 0.0), 100.0) for name, each in value.items()}
            return {**inside, "rotation": turned}
    return None


def _keypoints(
    region: Region, control: Control, prediction: Prediction, boxes: dict[int, str]
) -> Iterator[Result]:
    instance = region.instance
    if instance is None or instance.keypoints is None:
        return
    parent = boxes.get(id(instance))
    for label, x, y, score in named_keypoints(instance, control.ordered):
        ((left, top),) = _percent(np.array([(x, y)]), prediction)
        value = {"x": left, "y": top, "width": _POINT_SIZE}
        made = _result(region, control, label, prediction, value)
        yield {**made, "score": score, **({} if parent is None else {"parentID": parent})}


def _result(
    region: Region, control: Control, label: str, prediction: Prediction, value: Result
) -> Result:
    score = {} if region.score is None else {"score": region.score}
    return {
        "id": uuid.uuid4().hex[:10],
        "from_name": control.name,
        "to_name": control.image_name,
        "type": control.kind,
        "original_width": prediction.width,
        "original_height": prediction.height,
        "image_rotation": 0,
        "value": {**value, control.kind: [label]},
        **score,
    }


def _percent(points: Any, prediction: Prediction) -> list[list[float]]:
    sides = np.array([prediction.width, prediction.height], np.float64)
    scaled: list[list[float]] = (np.asarray(points, np.float64) / sides * 100).tolist()
    return scaled
