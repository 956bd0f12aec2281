"""What Caffe2's files cannot hold is refused with its module and what to do, before any work."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from detectron2 import model_zoo
from detectron2.modeling import build_model
from detectron2.modeling.meta_arch import RetinaNet
from detectron2.modeling.roi_heads import StandardROIHeads
from torch import Tensor, nn

from d2serve.export.errors import UnsupportedFamily
from d2serve.export.pipeline import export
from d2serve.export.programs.building import Order, write_program
from d2serve.export.programs.caffe2.refusals import why_no_caffe2
from d2serve.export.reading.config import ConfigSource
from d2serve.export.reading.config_loading import load_config
from d2serve.export.reading.families import family_of
from d2serve.export.reading.weights import build_model as built
from d2serve.export.request import ExportRequest, Progress
from d2serve.handlers.spec.extras import INSTANCE, Extra
from d2serve.handlers.spec.runtimes import CAFFE2, TRACING
from tests.export.conftest import TINY
from tests.exports import source_of

ADVICE = "Use --format onnx or --format torchscript."


def tiny(*overrides: object, config: str = "faster_rcnn_R_50_FPN_3x") -> Any:
    """A small model of the zoo, in evaluation mode."""
    cfg = model_zoo.get_config(f"COCO-Detection/{config}.yaml")
    cfg.merge_from_list([*TINY, *overrides])
    return build_model(cfg).eval()


class OwnHeads(StandardROIHeads):  # type: ignore[misc]
    """Changes what Caffe2's operators stand for."""

    def _forward_box(self, features: Any, proposals: Any) -> Any:
        return super()._forward_box(features, proposals)


class OwnRetinaNet(RetinaNet):  # type: ignore[misc]
    """Makes boxes in a way of its own."""

    def inference_single_image(self, *given: Any) -> Any:
        return super().inference_single_image(*given)


def as_class(model: nn.Module, path: str, kind: type) -> nn.Module:
    """A model of which one module is of another class."""
    model.get_submodule(path).__class__ = kind
    return model


def with_scale_clamp() -> Any:
    model = tiny()
    model.proposal_generator.box2box_transform.scale_clamp = 3.0
    return model


def with_softplus() -> Any:
    model = tiny()
    model.backbone.bottom_up.stem.conv1.activation = nn.functional.softplus
    return model


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "heads of one's own": (
        lambda: as_class(tiny(), "roi_heads", OwnHeads),
        r"^roi_heads \(OwnHeads\) cannot be .*test_caffe2_refusals.py:\d+ overrides _forward_box,",
    ),
    "boxes of one's own": (
        lambda: as_class(tiny(config="retinanet_R_50_FPN_1x"), "", OwnRetinaNet),
        r"^The model \(OwnRetinaNet\) .* overrides inference_single_image",
    ),
    "ROIPool": (
        lambda: tiny("MODEL.ROI_BOX_HEAD.POOLER_TYPE", "ROIPool"),
        r"^roi_heads.box_pooler \(ROIPooler\) .* does not pool by ROIAlign",
    ),
    "clamped otherwise": (with_scale_clamp, r"^proposal_generator \(RPN\) .* scale_clamp is 3.0"),
    "an activation": (
        with_softplus,
        r"^backbone.bottom_up.stem.conv1 \(Conv2d\) .* calls aten::softplus, for which Caffe2 has",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_module_is_named(name: str) -> None:
    make, reason = REFUSED[name]
    refusal = why_no_caffe2(make())
    assert refusal is not None
    assert re.search(reason, refusal), refusal
    assert refusal.endswith(ADVICE)


def test_what_detectron2_brings_otherwise_is_written() -> None:
    assert why_no_caffe2(tiny("MODEL.ROI_BOX_HEAD.NORM", "GN", "MODEL.FPN.NORM", "SyncBN")) is None


OF_EXAMPLES = {
    "fcos": "FCOS cannot be exported for Caffe2: neither Caffe2 nor",
    "rpn_fpn": "ProposalNetwork cannot be exported for Caffe2: Caffe2's CollectRpnProposals",
    "point_rend": "its mask_head is a PointRendMaskHead, expected a BaseMaskRCNNHead",
    "rotated_faster_rcnn_fpn": "(RRPN) cannot be exported for Caffe2: d2serve writes upright boxes",
    "mask_rcnn_dconv_fpn": "Caffe2 has deformable convolution on CUDA only",
    "vitdet": "it wants images padded to a square",
    "swin_mask_rcnn": "cannot be exported for Caffe2: it calls aten::",
    "mvitv2_cascade": "cannot be exported for Caffe2: it calls aten::",
    "deeplab_v3plus": "(ASPP) cannot be exported for Caffe2: it calls aten::",
    "panoptic_deeplab": "PanopticDeepLab cannot be exported for Caffe2: its files hold",
}


@pytest.mark.parametrize(
    "model",
    [
        pytest.param(each, marks=() if each == "rpn_fpn" else (pytest.mark.long,))
        for each in OF_EXAMPLES
    ],
)
def test_families_are_refused_by_name_and_nothing_is_written(model: str, tmp_path: Path) -> None:
    request = ExportRequest(source_of(model), TRACING, "m", output=tmp_path, format=CAFFE2)
    begun: list[str] = []
    progress = Progress(lambda step, _parts: begun.append(step), lambda: None)
    with pytest.raises(UnsupportedFamily) as caught:
        export(request, progress)
    assert OF_EXAMPLES[model] in str(caught.value)
    assert str(caught.value).endswith(ADVICE)
    assert begun == ["Reading the config"]
    assert list(tmp_path.iterdir()) == []


def test_fields_of_ones_own_are_not_lost_in_silence(tmp_path: Path) -> None:
    model = built(load_config(ConfigSource("COCO-Detection/retinanet_R_50_FPN_1x.yaml")))
    extra = Extra("depth", INSTANCE, "Tensor", "float32", ())
    family = replace(family_of(model), extras=(extra,))
    request = ExportRequest(ConfigSource("x.yaml"), TRACING, "m", format=CAFFE2)
    inputs: tuple[Tensor, ...] = (torch.zeros(3, 64, 64),)
    with pytest.raises(UnsupportedFamily, match=r"answers depth beyond detectron2's own fields"):
        write_program(Order(request, model, family, inputs, tmp_path, {}))
    assert list(tmp_path.iterdir()) == []
