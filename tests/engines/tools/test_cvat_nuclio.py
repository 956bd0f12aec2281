"""CVAT's serverless function, as it is packaged, with the library of its archive."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from d2serve.client.results.prediction import parse_prediction
from d2serve.server.annotating.asking import Model
from d2serve.server.packaging.writing import package
from tests.engines.reference import Reference
from tests.engines.tools.archives import Archives

_ASKING = """
import base64, json, pathlib, sys, types
import main
import d2serve.handlers.service as service

def answered(**body):
    return main.handler(context, types.SimpleNamespace(body=body))

context = types.SimpleNamespace(
    user_data=types.SimpleNamespace(), Response=lambda **answer: answer)
main.init_context(context)
found = []
for file in sys.argv[2:]:
    image = base64.b64encode(pathlib.Path(file).read_bytes()).decode()
    answer = answered(image=image, threshold=float(sys.argv[1]))
    found.append([answer["status_code"], json.loads(answer["body"])])
refused = answered(image="")
print(json.dumps({"library": service.__file__, "found": found, "refused": refused}))
"""
"""What nuclio does: one context, and an event for each question."""


def _asked(
    archive: Path, frames: list[Path], folder: Path, threshold: float = 0
) -> tuple[dict[str, Any], list[list[dict[str, Any]]]]:
    made, _ = package(archive, "cvat-nuclio", folder)
    command = [sys.executable, "-W", "ignore", "-c", _ASKING, str(threshold), *map(str, frames)]
    # As nuclio's wrapper, which is started in the folder of the function.
    ran = subprocess.run(
        command,
        cwd=made,
        env={**os.environ, "PYTHONPATH": str(made)},
        stdout=subprocess.PIPE,
        check=True,
        timeout=300,
    )
    said = json.loads(ran.stdout.splitlines()[-1])
    assert Path(said["library"]).is_relative_to(made)
    assert said["refused"]["status_code"] == 400
    assert all(status == 200 for status, _ in said["found"])
    return said, [shapes for _, shapes in said["found"]]


def _mask(shape: dict[str, Any], height: int, width: int) -> Any:
    """As CVAT reads it: the pixels of a box, and its corners."""
    *bits, x0, y0, x1, y1 = shape["mask"]
    mask = np.zeros((height, width), np.bool_)
    mask[y0 : y1 + 1, x0 : x1 + 1] = np.reshape(bits, (y1 - y0 + 1, x1 - x0 + 1))
    return mask


def test_masks_are_those_of_torchserve_pixel_for_pixel(
    reference: Reference, tmp_path: Path
) -> None:
    frames, compared = reference.images[:30], 0
    _, found = _asked(reference.archive, frames, tmp_path, 0.3)
    for frame, shapes in zip(frames, found):
        answer = parse_prediction(reference.answers[frame.name])
        instances = [each for each in answer.instances if each.score >= 0.3 and each.mask().any()]
        assert len(shapes) == len(instances)
        for shape, instance in zip(shapes, instances):
            assert (shape["type"], shape["label"]) == ("mask", instance.label())
            assert float(shape["confidence"]) == pytest.approx(instance.score)
            mask = instance.mask()
            assert np.array_equal(_mask(shape, *mask.shape), mask)
            outline = coco_mask.decode(coco_mask.frPyObjects([shape["points"]], *mask.shape))
            overlap = (outline[:, :, 0].astype(bool) & mask).sum() / mask.sum()
            assert overlap > 0.5
            compared += 1
    assert compared > 100


def test_rotated_boxes(
    archives: Archives, models: Callable[[str], Model], frames: list[Path], tmp_path: Path
) -> None:
    _, found = _asked(archives("rotated"), frames[:5], tmp_path)
    compared = 0
    for frame, shapes in zip(frames, found):
        answer = models("rotated").predict(frame)
        assert len(shapes) == len(answer.instances)
        for shape, instance in zip(shapes, answer.instances):
            x, y, width, height, angle = instance.bbox
            corners = [x - width / 2, y - height / 2, x + width / 2, y + height / 2]
            assert shape["points"] == pytest.approx(corners)
            assert shape["rotation"] == pytest.approx(-angle % 360)
            compared += 1
    assert compared > 20


def test_a_panoptic_map(
    archives: Archives, models: Callable[[str], Model], frames: list[Path], tmp_path: Path
) -> None:
    _, found = _asked(archives("panoptic"), frames[:5], tmp_path)
    for frame, shapes in zip(frames, found):
        answer = models("panoptic").predict(frame)
        assert answer.panoptic_seg is not None
        segments = answer.panoptic_seg.segments_info
        painted = np.zeros((answer.height, answer.width), np.int32)
        assert [shape["label"] for shape in shapes] == [each.label() for each in segments]
        for shape, segment in zip(shapes, segments):
            painted[_mask(shape, answer.height, answer.width)] = segment.id
        assert np.array_equal(painted, answer.panoptic_seg.label_map())
