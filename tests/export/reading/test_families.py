"""Families are recognised, and what cannot be exported is refused by name before any work."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from detectron2.config import get_cfg
from detectron2.layers import ShapeSpec
from detectron2.modeling import META_ARCH_REGISTRY, ROI_HEADS_REGISTRY
from detectron2.modeling.test_time_augmentation import GeneralizedRCNNWithTTA
from torch import nn

from d2serve.export.errors import ConfigError, UnsupportedFamily
from d2serve.export.reading.config import ConfigSource
from d2serve.export.reading.config_loading import load_config
from d2serve.export.reading.families import Family, family_of
from d2serve.export.reading.weights import build_model
from d2serve.handlers.spec.model_spec import PanopticMerge
from tests.conftest import source_of

FASTER = "COCO-Detection/faster_rcnn_R_50_FPN_3x.yaml"
BOXES = ("pred_boxes", "scores", "pred_classes")
# Full-size models, with as few parameters as their configs take: only their kind matters.
SMALL = (
    *("MODEL.DEVICE", "cpu", "MODEL.RESNETS.WIDTH_PER_GROUP", "8"),
    *("MODEL.RESNETS.RES2_OUT_CHANNELS", "32", "MODEL.RESNETS.STEM_OUT_CHANNELS", "16"),
    *("MODEL.ROI_BOX_HEAD.FC_DIM", "32"),
)


def family(model: str) -> Family:
    return family_of(build_model(load_config(source_of(model))))


def of_zoo(name: str, *overrides: str) -> Family:
    return family_of(build_model(load_config(ConfigSource(name, (*SMALL, *overrides)))))


@pytest.mark.parametrize(
    ("model", "name", "outputs"),
    [
        ("faster_rcnn_fpn", "Faster R-CNN FPN", BOXES),
        ("mask_rcnn_fpn", "Mask R-CNN FPN", (*BOXES, "pred_masks")),
        ("keypoint_rcnn_fpn", "Keypoint R-CNN FPN", (*BOXES, "pred_keypoints")),
        ("retinanet", "RetinaNet", BOXES),
        ("faster_rcnn_c4", "Faster R-CNN C4", BOXES),
        ("mask_rcnn_dc5", "Mask R-CNN DC5", (*BOXES, "pred_masks")),
        ("cascade_mask_rcnn_fpn", "Cascade Mask R-CNN FPN", (*BOXES, "pred_masks")),
        ("panoptic_fpn", "Panoptic FPN (Mask R-CNN FPN)", (*BOXES, "pred_masks", "sem_seg")),
        ("semantic_fpn", "Semantic segmentation FPN", ("sem_seg",)),
        ("deeplab_v3plus", "Semantic segmentation DeepLab v3+", ("sem_seg",)),
        (
            "panoptic_deeplab",
            "Panoptic-DeepLab",
            (*BOXES, "pred_masks", "sem_seg", "panoptic_seg", "segments_info"),
        ),
        ("rpn_fpn", "RPN FPN", ("proposal_boxes", "objectness_logits")),
        ("fcos", "FCOS", BOXES),
        ("mask_rcnn_dconv_fpn", "Mask R-CNN FPN", (*BOXES, "pred_masks")),
        ("point_rend", "PointRend R-CNN FPN", (*BOXES, "pred_masks")),
        ("vitdet", "Mask R-CNN ViTDet", (*BOXES, "pred_masks")),
        ("regnet_mask_rcnn", "Mask R-CNN RegNet FPN", (*BOXES, "pred_masks")),
        ("swin_mask_rcnn", "Mask R-CNN Swin FPN", (*BOXES, "pred_masks")),
        ("mvitv2_cascade", "Cascade Mask R-CNN MViTv2 FPN", (*BOXES, "pred_masks")),
        ("mask_rcnn_gn_cls_agnostic", "Mask R-CNN FPN", (*BOXES, "pred_masks")),
        ("rotated_faster_rcnn_fpn", "Rotated R-CNN FPN", BOXES),
    ],
)
def test_the_examples_are_recognised(model: str, name: str, outputs: tuple[str, ...]) -> None:
    found = family(model)
    assert found.name == name
    assert found.outputs == outputs
    assert found.num_classes == (3 if found.has_instances else None)
    assert (found.panoptic is not None) == (model == "panoptic_fpn")


def test_thresholds_are_those_that_the_model_applies() -> None:
    cascade = family("cascade_mask_rcnn_fpn")
    assert (cascade.score_thresh, cascade.nms_thresh, cascade.detections_per_image) == (
        *(0.05, 0.5, 100),
    )
    proposals = family("rpn_fpn")
    assert (proposals.score_thresh, proposals.nms_thresh) == (None, 0.7)
    assert proposals.detections_per_image == 300
    labels = family("semantic_fpn")
    assert (labels.score_thresh, labels.nms_thresh, labels.detections_per_image) == (None,) * 3
    assert family("panoptic_fpn").panoptic == PanopticMerge(0.5, 1024, 0.5)


@pytest.mark.parametrize(
    ("config", "overrides", "name"),
    [
        ("Misc/cascade_mask_rcnn_R_50_FPN_3x.yaml", ["MODEL.MASK_ON", "False"], "Cascade R-CNN"),
        ("COCO-Detection/rpn_R_50_C4_1x.yaml", [], "RPN C4"),
        ("COCO-InstanceSegmentation/mask_rcnn_R_50_C4_1x.yaml", [], "Mask R-CNN C4"),
        (
            FASTER,
            [
                *("MODEL.PROPOSAL_GENERATOR.NAME", "RRPN", "MODEL.ROI_HEADS.NAME", "RROIHeads"),
                *("MODEL.ANCHOR_GENERATOR.NAME", "RotatedAnchorGenerator"),
                *("MODEL.ANCHOR_GENERATOR.ANGLES", "[[-45, 0, 45]]"),
                *("MODEL.ROI_BOX_HEAD.POOLER_TYPE", "ROIAlignRotated"),
                *("MODEL.RPN.BBOX_REG_WEIGHTS", "(1, 1, 1, 1, 1)"),
                *("MODEL.ROI_BOX_HEAD.BBOX_REG_WEIGHTS", "(10, 10, 5, 5, 1)"),
            ],
            "Rotated R-CNN FPN",
        ),
    ],
)
def test_what_was_refused_once_is_recognised(config: str, overrides: list[str], name: str) -> None:
    found = of_zoo(config, *overrides)
    assert name in found.name
    assert found.box_mode == ("XYWHA_ABS" if "Rotated" in name else "XYXY_ABS")


@pytest.mark.parametrize(
    ("config", "overrides", "named"),
    [
        (
            FASTER,
            ["TEST.AUG.ENABLED", "True"],
            r"TEST\.AUG\.ENABLED.*GeneralizedRCNNWithTTA.*merges in Python.*AUG\.ENABLED False",
        ),
        (
            "COCO-Detection/fast_rcnn_R_50_FPN_1x.yaml",
            [],
            r"precomputed proposals \(Fast R-CNN\).*PROPOSAL_GENERATOR\.NAME RPN",
        ),
        (FASTER, ["MODEL.META_ARCHITECTURE", "TensorMask"], "TensorMask.*swap_align2nat.*CUDA"),
        (FASTER, ["MODEL.ROI_HEADS.NAME", "DensePoseROIHeads"], "DensePose.*charts"),
        (
            FASTER,
            ["INPUT.FORMAT", "YUV-BT.601"],
            "format is YUV-BT.601; what is served",
        ),
    ],
)
def test_what_cannot_be_exported_is_refused_with_its_reason(
    config: str, overrides: list[str], named: str
) -> None:
    source = ConfigSource(config, ["MODEL.WEIGHTS", "not-even-read.pth", *overrides])
    with pytest.raises(UnsupportedFamily, match=named):
        load_config(source)


def test_a_registered_project_is_refused_by_its_modules(
    registered: Callable[[Any, type], None],
) -> None:
    """Where the project is installed, and another name hides it."""

    class TensorMask(nn.Module):
        def __init__(self, _cfg: object) -> None:
            super().__init__()

    class OursOnTensorMask(TensorMask):
        pass

    registered(META_ARCH_REGISTRY, OursOnTensorMask)
    with pytest.raises(UnsupportedFamily, match=r"^TensorMask is not exported: its swap_align2nat"):
        of_zoo(FASTER, "MODEL.META_ARCHITECTURE", "OursOnTensorMask")


def test_a_model_with_test_time_augmentation_around_it_is_refused() -> None:
    cfg = get_cfg()
    cfg.MODEL.KEYPOINT_ON = False
    inner = build_model(load_config(source_of("mask_rcnn_fpn")))
    augmented = GeneralizedRCNNWithTTA(cfg, inner)
    with pytest.raises(UnsupportedFamily, match="Export the model inside it"):
        family_of(augmented)


def test_heads_of_the_users_own_are_the_users_own_model(
    registered: Callable[[Any, type], None],
) -> None:
    """What it answers is known when it has run: tests/export/own_models/."""

    class OwnHeads(nn.Module):
        def __init__(self, _cfg: object, _shape: dict[str, ShapeSpec]) -> None:
            super().__init__()
            self.num_classes = 5

    registered(ROI_HEADS_REGISTRY, OwnHeads)
    found = of_zoo(FASTER, "MODEL.ROI_HEADS.NAME", "OwnHeads")
    assert (found.name, found.is_own, found.outputs) == ("GeneralizedRCNN with OwnHeads", True, ())
    assert found.num_classes == 5


def test_an_unknown_registered_name_points_to_import() -> None:
    for key, name in (("ROI_HEADS.NAME", "MyHeads"), ("META_ARCHITECTURE", "MyModel")):
        with pytest.raises(ConfigError, match=rf"{name} is not registered.*--import"):
            load_config(ConfigSource(FASTER, [f"MODEL.{key}", name]))


@pytest.fixture
def registered() -> Any:
    """Registers a class with detectron2, for the length of a test."""
    done: list[tuple[Any, str]] = []

    def register(registry: Any, made: type) -> None:
        registry.register(made)
        done.append((registry, made.__name__))

    yield register
    for registry, name in done:
        registry._obj_map.pop(name)
