"""Results as supervision's structures, for its annotators, trackers and metrics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields as dataclass_fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from d2serve.client.errors import InvalidInput
from d2serve.client.results.extras import stacked
from d2serve.client.results.instances import XYWHA, Instance, have_all, keypoints_of
from d2serve.client.results.packages import load
from d2serve.client.results.segments import PanopticSeg, SemSeg
from d2serve.client.results.tables import PROPOSALS, Found
from d2serve.handlers.spec.extras import Extra

# Under these names supervision itself looks, in Detections.data.
_NAMES, _CORNERS = "class_name", "xyxyxyxy"


def to_detections(found: Found, size: tuple[int, int], fields: Sequence[Extra]) -> Any:
    """See Prediction.to_supervision; ``size`` is (height, width) of the image."""
    detections = _supervision("to_supervision() makes supervision's own Detections").Detections
    if found.sem_seg is not None:
        return detections(*_of_classes(found.sem_seg, size))
    if found.panoptic_seg is not None:
        return detections(*_of_segments(found.panoptic_seg, size))
    if found.kind == PROPOSALS:
        logits = np.array([each.objectness_logit for each in found.proposals], np.float32)
        boxes = _boxes([each.bbox for each in found.proposals])
        return detections(xyxy=boxes, data={"objectness_logit": logits})
    return detections(*_of_instances(found.instances, size, fields))


def to_key_points(found: Sequence[Instance]) -> Any:
    """See Prediction.to_supervision_key_points."""
    made = _supervision("to_supervision_key_points() makes supervision's own KeyPoints").KeyPoints
    points = keypoints_of(found)
    if points is None and found:
        raise InvalidInput(
            "Got a prediction without keypoints, expected one of a keypoint model. Its boxes and "
            "masks are in to_supervision()."
        )
    if points is None:
        return made.empty()
    known = {each.name for each in dataclass_fields(made)}
    # supervision 0.29 renamed it, and added the score of the whole.
    name = "keypoint_confidence" if "keypoint_confidence" in known else "confidence"
    more = {name: points[..., 2]}
    if "detection_confidence" in known:
        more["detection_confidence"] = np.array([each.score for each in found], np.float32)
    class_id, _, data = _classes(found)
    return made(xy=points[..., :2].copy(), class_id=class_id, data=data, **more)


def _of_instances(
    found: Sequence[Instance], size: tuple[int, int], fields: Sequence[Extra]
) -> tuple[Any, ...]:
    masks = [each.mask() for each in found] if have_all(found, "segmentation") else None
    class_id, tracker_id, data = _classes(found)
    data.update(stacked(fields, [each.extra for each in found]))
    corners = np.array([each.corners() for each in found], np.float32).reshape(-1, 4, 2)
    if found and found[0].bbox_mode == XYWHA:
        boxes = np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1)
        data[_CORNERS] = corners
    else:
        boxes = _boxes([each.bbox for each in found])
    scores = np.array([each.score for each in found], np.float32)
    mask = None if masks is None else _masks(masks, size)
    return boxes, mask, scores, class_id, tracker_id, data


def _of_classes(found: SemSeg, size: tuple[int, int]) -> tuple[Any, ...]:
    labels = found.label_map()
    masks = _masks([labels == each.category_id for each in found.classes], size)
    return _around(masks), masks, None, *_classes(found.classes)


def _of_segments(found: PanopticSeg, size: tuple[int, int]) -> tuple[Any, ...]:
    ids, segments = found.label_map(), found.segments_info
    masks = _masks([ids == each.id for each in segments], size)
    class_id, tracker_id, data = _classes(segments)
    data["segment_id"] = np.array([each.id for each in segments], np.int64)
    data["isthing"] = np.array([each.isthing for each in segments], np.bool_)
    # Stuff has no score, of which supervision wants one for each or none.
    scores = [np.nan if each.score is None else each.score for each in segments]
    data["score"] = np.array(scores, np.float32)
    return _around(masks), masks, None, class_id, tracker_id, data


def _classes(found: Sequence[Any]) -> tuple[NDArray[np.int64], None, dict[str, Any]]:
    """class_id, tracker_id and data, as both structures take them one after another."""
    ids = np.array([each.category_id for each in found], np.int64)
    names = [each.category_name for each in found]
    named = bool(names) and None not in names
    return ids, None, {_NAMES: np.array(names)} if named else {}


def _boxes(boxes: Sequence[Sequence[float]]) -> NDArray[np.float32]:
    return np.array(boxes, np.float32).reshape(-1, 4)


def _masks(masks: Sequence[NDArray[np.bool_]], size: tuple[int, int]) -> NDArray[np.bool_]:
    return np.stack(masks) if masks else np.zeros((0, *size), np.bool_)


def _around(masks: NDArray[np.bool_]) -> NDArray[np.float32]:
    """The boxes around masks, of which none is empty, from edge to edge as detectron2's are."""
    boxes = np.zeros((len(masks), 4), np.float32)
    for box, mask in zip(boxes, masks):
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        box[:] = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
    return boxes


def _supervision(used_by: str) -> Any:
    advice = "Install supervision; without it, to_pandas() and the own fields hold the same."
    return load("supervision", used_by, advice)
