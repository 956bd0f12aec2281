"""FiftyOne's model: what a model finds, as FiftyOne's labels.

    from d2serve.server.annotating.fiftyone_model import FiftyOneModel

    dataset.apply_model(FiftyOneModel("shapes.mar"), label_field="shapes")

Places are in parts of the image's sides, from 0 to 1.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Union

import fiftyone.core.labels as fol
import fiftyone.core.models as fom
import numpy as np
from numpy.typing import NDArray

from d2serve.client.results.instances import Instance
from d2serve.client.results.prediction import Prediction
from d2serve.server.annotating.asking import About, Model, open_model
from d2serve.server.annotating.regions import Region, areas_of, extent, instances_of

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from d2serve.client.predict.options import PredictOptions

Labels = Union[fol.Label, dict[str, fol.Label]]

_HALFWAY = 1e-6
"""In pixels. FiftyOne cuts off what is behind the point of a box's corner in pixels, which must not
be the whole pixel where the corner was divided by the image's side and multiplied again."""
_NOT_SHOWN = (
    "d2serve: FiftyOne's boxes of instances with a mask reach to whole pixels, as their masks do; "
    "the model's own are in `model_box`, or alone with masks='none'. Boxes that are rotated become "
    "polylines, a panoptic map becomes detections with a mask for each segment."
)

_log = logging.getLogger(__name__)


class FiftyOneModel(fom.Model):  # type: ignore[misc]  # it has no types
    """Answers ``dataset.apply_model``.

    A model that finds one kind of thing gives one label: Detections (with masks, if it has them),
    Keypoints, Polylines of rotated boxes, or a Segmentation. Others give several, by name:
    ``instances`` or ``keypoints``, ``sem_seg`` and ``panoptic``.
    """

    config = None
    """``apply_model`` looks whether it can leave its threshold and classes to the model, in here;
    it sees to them itself."""

    def __init__(self, model: Model | str | Path, **options: Unpack[PredictOptions]) -> None:
        """
        Args:
            model: a .mar file, or what ``open_model`` gives: a served model, for one.
            **options: of each request: score_thresh, max_detections, classes, masks.
        """
        super().__init__()
        self._model = open_model(model) if isinstance(model, (str, Path)) else model
        self._options = options
        _log.info(_NOT_SHOWN)

    @property
    def media_type(self) -> str:
        return "image"

    @property
    def ragged_batches(self) -> bool:
        """Images of a batch may have different sizes: False is FiftyOne's word for that."""
        return False

    @property
    def transforms(self) -> None:
        """None: an archive has the model's own preprocessing."""
        return

    @property
    def preprocess(self) -> bool:
        return False

    @preprocess.setter
    def preprocess(self, value: bool) -> None:
        """FiftyOne sets it; there is nothing to switch off."""

    @property
    def mask_targets(self) -> dict[int, str]:
        """Names of the values of a Segmentation: what a data set's ``default_mask_targets`` takes.

        They are the model's own numbers. Of 0 FiftyOne's app shows nothing.
        """
        return dict(enumerate(self._model.about.stuff_class_names))

    def predict(self, arg: NDArray[np.uint8]) -> Labels:
        """What is found in an image, (height, width, 3) in RGB order."""
        prediction = self._model.predict(np.asarray(arg), **self._options)
        return labels_of(prediction, self._model.about)

    def predict_all(self, args: Iterable[NDArray[np.uint8]]) -> list[Labels]:
        return [self.predict(arg) for arg in args]

    def __exit__(self, *_: object) -> None:
        """``apply_model`` enters the model, and may do so again: it stays open."""

    def close(self) -> None:
        """Give back what the model holds; it cannot be used after it."""
        self._model.close()


def labels_of(prediction: Prediction, about: About) -> Labels:
    """FiftyOne's labels for a prediction: one, or several by name.

    Which they are follows from the model alone: a data set's field has one type for all samples,
    also for those in which nothing is found.
    """
    labels: dict[str, fol.Label] = {}
    if prediction.has_instances:
        labels["instances"] = _instances(prediction, about)
    if "keypoints" in about.outputs:
        points = [_keypoints(each, prediction) for each in prediction.instances]
        labels["keypoints"] = fol.Keypoints(keypoints=points)
    if prediction.proposals is not None:
        boxes = [_box(each.bbox, prediction) for each in prediction.proposals]
        labels["proposals"] = fol.Detections(
            detections=[
                fol.Detection(
                    label="proposal", bounding_box=box, objectness_logit=each.objectness_logit
                )
                for box, each in zip(boxes, prediction.proposals)
            ]
        )
    if prediction.sem_seg is not None:
        labels["sem_seg"] = fol.Segmentation(mask=_small(prediction.sem_seg.label_map()))
    if prediction.panoptic_seg is not None:
        labels["panoptic"] = fol.Detections(
            detections=[
                _with_mask(region, prediction, isthing=region.is_thing)
                for region in areas_of(prediction)
            ]
        )
    return next(iter(labels.values())) if len(labels) == 1 else labels


def _instances(prediction: Prediction, about: About) -> fol.Label:
    if about.has_rotated_boxes:
        lines = [_outline(each, prediction) for each in prediction.instances]
        return fol.Polylines(polylines=lines)
    boxes = [_detection(region, prediction) for region in instances_of(prediction)]
    return fol.Detections(detections=boxes)


def _detection(region: Region, prediction: Prediction) -> fol.Detection:
    instance = region.instance
    assert instance is not None
    if instance.segmentation is not None:
        own = _box(instance.bbox, prediction)
        return _with_mask(region, prediction, box=instance.bbox, model_box=own)
    return fol.Detection(
        label=region.label,
        bounding_box=_box(instance.bbox, prediction),
        confidence=region.score,
    )


def _with_mask(
    region: Region, prediction: Prediction, box: tuple[float, ...] = (), **attributes: Any
) -> fol.Detection:
    """A detection whose mask FiftyOne renders pixel for pixel."""
    mask = region.mask()
    left, top, right, bottom = extent(mask)
    if box:
        x0, y0, x1, y1 = box
        has_pixels = right > left
        left = min(left, int(x0)) if has_pixels else int(x0)
        top = min(top, int(y0)) if has_pixels else int(y0)
        right = min(max(right, int(np.ceil(x1)), left + 1), prediction.width)
        bottom = min(max(bottom, int(np.ceil(y1)), top + 1), prediction.height)
    corners = (left + _HALFWAY, top + _HALFWAY, right + _HALFWAY, bottom + _HALFWAY)
    return fol.Detection(
        label=region.label,
        bounding_box=_box(corners, prediction),
        mask=np.ascontiguousarray(mask[top:bottom, left:right]),
        confidence=region.score,
        **attributes,
    )


def _outline(instance: Instance, prediction: Prediction) -> fol.Polyline:
    corners = _points(instance.corners(), prediction)
    return fol.Polyline(
        label=instance.label(),
        points=[corners],
        closed=True,
        filled=True,
        confidence=instance.score,
    )


def _keypoints(instance: Instance, prediction: Prediction) -> fol.Keypoint:
    points = np.array(instance.keypoints or (), np.float64).reshape(-1, 3)
    return fol.Keypoint(
        label=instance.label(),
        points=_points(points[:, :2], prediction),
        confidence=points[:, 2].tolist(),
    )


def _box(corners: tuple[float, ...], prediction: Prediction) -> list[float]:
    x0, y0, x1, y1 = corners
    width, height = prediction.width, prediction.height
    return [x0 / width, y0 / height, (x1 - x0) / width, (y1 - y0) / height]


def _points(points: NDArray[np.float64], prediction: Prediction) -> list[tuple[float, float]]:
    scaled = points / np.array([prediction.width, prediction.height], np.float64)
    return [(float(x), float(y)) for x, y in scaled]


def _small(labels: NDArray[np.int32]) -> NDArray[Any]:
    """In the fewest bytes that FiftyOne stores."""
    return labels.astype(np.uint8 if labels.max(initial=0) < 256 else np.uint16)
