"""Caffe2 files that upstream's own tracer wrote, with what Caffe2 answers (tests/data/caffe2).

They are of small models trained on the example images; tests/data/caffe2/README.md says how they
came about. Each was asked about three inputs, see ``CASES``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

Float32 = npt.NDArray[np.float32]
Arrays = Mapping[str, npt.NDArray[Any]]

FOLDER = Path(__file__).resolve().parent / "data" / "caffe2"
MODELS = FOLDER / "models"
"""Their configs and weights."""
SCENE = FOLDER / "scene.png"
"""147 x 196 pixels of shapes: a size that needs padding, and no resizing for these tests."""

MODEL_OF = {
    "mask_rcnn_fpn": "mask_rcnn_fpn",
    "keypoint_rcnn_fpn": "keypoint_rcnn_fpn",
    "keypoint_rcnn_fpn_max": "keypoint_rcnn_fpn",
    "panoptic_fpn": "panoptic_fpn",
    "retinanet": "retinanet",
    "faster_rcnn_c4": "faster_rcnn_c4",
}
"""By folder of files: the config it was made of. ``keypoint_rcnn_fpn_max`` reads its keypoints off
in the network (EXPORT_CAFFE2.USE_HEATMAP_MAX_KEYPOINT)."""
RGB_MODELS = ("retinanet",)
MEAN = 110.0
"""PIXEL_MEAN of each channel."""

DETECTIONS, NOTHING, AS_UPSTREAM = "scene", "grey", "upstream"
CASES = (DETECTIONS, NOTHING, AS_UPSTREAM)
"""The scene, and plain grey in which nothing is found, each padded with the mean and with a scale
of 1; and the scene as upstream's wrapper gives it, padded with zeros and with another scale."""

_RECORDED = "caffe2.npz"
_LARGE = 40_000
_AS_SENT = 480
"""Height of the image that the scene was resized from, as far as upstream's scale goes."""


@dataclass(frozen=True)
class Case:
    """One input, and Caffe2's own answer."""

    data: Float32
    """(1, 3, H, W), padded."""
    im_info: Float32
    """(1, 3): height and width before padding, and the scale."""
    outputs: Arrays
    """By name; without RetinaNet's feature maps, and large ones are there for the scene only."""


def scene_of(name: str) -> npt.NDArray[np.uint8]:
    """The scene in the channel order of a model."""
    rgb = np.asarray(Image.open(SCENE))
    return rgb if name in RGB_MODELS else np.ascontiguousarray(rgb[:, :, ::-1])


def inputs_of(name: str) -> dict[str, tuple[Float32, Float32]]:
    """data and im_info of each case."""
    scene, grey = scene_of(name), np.full((117, 150, 3), 128, np.uint8)
    unit = 1 if name == "faster_rcnn_c4" else 32
    return {
        DETECTIONS: _prepared(scene, MEAN, 1.0, unit),
        NOTHING: _prepared(grey, MEAN, 1.0, unit),
        AS_UPSTREAM: _prepared(scene, 0.0, _AS_SENT / scene.shape[0], unit),
    }


def recorded(name: str) -> dict[str, Case]:
    """What Caffe2 answered to the files of a folder, by case."""
    answers = np.load(FOLDER / name / _RECORDED)
    return {
        case: Case(
            *inputs,
            outputs={
                key.partition("/")[2]: answers[key]
                for key in answers.files
                if key.startswith(f"{case}/")
            },
        )
        for case, inputs in inputs_of(name).items()
    }


def record(name: str, answers: Arrays) -> None:
    """Keep what Caffe2 answered, by ``CASE/OUTPUT``."""
    kept = {
        key: value
        for key, value in answers.items()
        if "/feature_" not in key and (key.startswith(f"{DETECTIONS}/") or value.size < _LARGE)
    }
    np.savez_compressed(FOLDER / name / _RECORDED, **kept)  # type: ignore[arg-type]


def _prepared(
    pixels: npt.NDArray[np.uint8], padding: float, scale: float, unit: int
) -> tuple[Float32, Float32]:
    height, width = pixels.shape[:2]
    padded = np.full((1, 3, -(-height // unit) * unit, -(-width // unit) * unit), padding)
    padded[0, :, :height, :width] = pixels.transpose(2, 0, 1)
    return padded.astype(np.float32), np.array([[height, width, scale]], np.float32)
