"""ViTDet with a cascade: the rewrites of both together, traced, scripted and in ONNX."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from detectron2 import model_zoo
from detectron2.config import instantiate
from detectron2.modeling.roi_heads import CascadeROIHeads
from torch import nn

from d2serve.export.programs.scripting import script
from d2serve.export.programs.tracing import trace
from d2serve.export.rewrites.registry import exportable
from d2serve.export.rewrites.rewrite import ONNX, SCRIPTING, TRACING
from tests.export.rewrites import small, ways

OUTPUTS = ("pred_boxes", "scores", "pred_classes", "pred_masks")
FIRST, *OTHERS = ways.images((96, 128), (70, 110), (128, 90), (64, 64), (100, 100))


@pytest.fixture(scope="module")
def model() -> Any:
    found = small.vit_det()
    config = model_zoo.get_config("common/models/cascade_rcnn.py").model.roi_heads
    config.num_classes = small.CLASSES
    for head in config.box_heads:
        head.input_shape.channels, head.fc_dims = 16, [32]
    for predictor in config.box_predictors:
        predictor.input_shape.channels = 32
        predictor.test_score_thresh, predictor.test_topk_per_image = 0.4, 1000
    config.mask_head.input_shape.channels, config.mask_head.conv_dims = 16, [16, 16]
    torch.manual_seed(2)
    heads = instantiate(config)
    for predictor in heads.box_predictor:
        nn.init.normal_(predictor.cls_score.weight, std=0.7)
        nn.init.normal_(predictor.bbox_pred.weight, std=0.3)
    found.roi_heads = heads
    return found.eval()


def test_it_detects(model: Any) -> None:
    assert isinstance(model.roi_heads, CascadeROIHeads)
    assert all(len(ways.eager(model, [image])[0]["scores"]) >= 5 for image in (FIRST, *OTHERS))


def test_traced_at_other_sizes(model: Any) -> None:
    changed, _names = exportable(model, TRACING)
    program = trace(changed, OUTPUTS, (FIRST,)).module
    for image in OTHERS:
        got = dict(zip(OUTPUTS, program(image)))
        ways.assert_close(got, ways.eager(model, [image])[0])


def test_scripted_batches_of_mixed_sizes(model: Any) -> None:
    changed, names = exportable(model, SCRIPTING)
    assert {"cascade_roi_heads", "vit_attention", "simple_feature_pyramid"} <= set(names)
    program = script(changed).module
    for count in (1, 2, 5):
        batch = [FIRST, *OTHERS][:count]
        with torch.no_grad():
            answers = program([{"image": image} for image in batch])
        for got, expected in zip(answers, ways.eager(model, batch)):
            ways.assert_close({name: got[name] for name in OUTPUTS}, expected)


@pytest.mark.export
@pytest.mark.long  # a ViTDet is exported for OpenVINO and served in tests/parity/
def test_in_onnx_on_both_runtimes(model: Any, tmp_path: Path) -> None:
    changed, _names = exportable(model, ONNX)
    programs = ways.onnx_programs(changed, FIRST, tmp_path)
    for image in OTHERS[:2]:
        (expected,) = ways.eager(model, [image])
        for run in (programs.onnxruntime, programs.openvino):
            ways.assert_close(run(image), expected, pred_boxes=0.01, scores=1e-3, pred_masks=1e-3)
