"""Files of upstream's tracer are called as the models in PyTorch they were made from.

Their answers are those of eager detectron2, also where upstream's own wrapper's are not: the images
need padding, and are asked for in another size. But what upstream's tracer itself wrote otherwise
stays so, as in Caffe2: it enlarges the heatmaps of keypoints without interpolation, and sem_seg
with zeros beyond the border.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from d2serve.handlers.caffe2 import Caffe2Model
from d2serve.handlers.spec.bounds import CAFFE2_BOUNDS
from tests.upstream_files import FOLDER, MODEL_OF, MODELS, scene_of


def eager(name: str) -> Any:
    from detectron2.checkpoint import DetectionCheckpointer
    from detectron2.config import get_cfg
    from detectron2.modeling import build_model

    cfg = get_cfg()
    cfg.merge_from_file(str(MODELS / f"{MODEL_OF[name]}.yaml"))
    cfg.MODEL.DEVICE = "cpu"
    model = build_model(cfg).eval()
    DetectionCheckpointer(model).load(str(MODELS / f"{MODEL_OF[name]}.pth"))
    return model


@pytest.mark.parametrize("name", MODEL_OF)
def test_the_answers_are_eager_detectron2s(name: str) -> None:
    theirs, ours = eager(name), Caffe2Model.load_protobuf(FOLDER / name)
    scene = scene_of(name)
    seen = 0
    for pixels, size in (
        (scene, {"height": 480, "width": 640}),
        (scene[:96, 3:], {}),
        (np.ascontiguousarray(scene[20:, ::-1]), {"height": 200, "width": 300}),
        (np.full_like(scene, 128), {}),
    ):
        image = torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))
        given: dict[str, Any] = {"image": image, **size}
        with torch.no_grad():
            (expected,) = theirs([given])
        (got,) = ours([given])
        assert got.keys() == expected.keys()
        seen += _compared(got["instances"], expected["instances"])
        if "sem_seg" in expected:
            labels, wanted = (answer["sem_seg"].argmax(0) for answer in (got, expected))
            assert (labels == wanted).float().mean() > 0.9
            things, wanted = (
                [each for each in answer["panoptic_seg"][1] if each["isthing"]]
                for answer in (got, expected)
            )
            assert [each["category_id"] for each in things] == [
                each["category_id"] for each in wanted
            ]
    assert seen > 15


def _compared(got: Any, expected: Any) -> int:
    expected = expected[expected.scores.argsort(descending=True, stable=True)]
    assert len(got) == len(expected)
    assert got.image_size == tuple(expected.image_size)
    assert got.pred_classes.tolist() == expected.pred_classes.tolist()
    boxes = got.pred_boxes.tensor - expected.pred_boxes.tensor
    assert (boxes.abs() < CAFFE2_BOUNDS.box_px).all()
    assert np.allclose(got.scores, expected.scores, atol=CAFFE2_BOUNDS.score, rtol=0)
    assert got.has("pred_masks") == expected.has("pred_masks")
    if expected.has("pred_masks"):
        assert int((got.pred_masks != expected.pred_masks).sum()) <= 2
    if expected.has("pred_keypoints"):
        assert got.pred_keypoints.shape == expected.pred_keypoints.shape
    return len(got)
