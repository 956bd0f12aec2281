"""Families are recognised, and what cannot be exported is refused by name before any work."""

from __future__ import annotations

import pytest

from d2serve.export.config import load_config
from d2serve.export.errors import ConfigError, UnsupportedFamily
from d2serve.export.families import family_of
from tests.conftest import config_of


@pytest.mark.parametrize(
    ("model", "name", "outputs"),
    [
        ("faster_rcnn_fpn", "Faster R-CNN FPN", ()),
        ("mask_rcnn_fpn", "Mask R-CNN FPN", ("pred_masks",)),
        ("keypoint_rcnn_fpn", "Keypoint R-CNN FPN", ("pred_keypoints",)),
        ("retinanet", "RetinaNet", ()),
        ("faster_rcnn_c4", "Faster R-CNN C4", ()),
        ("mask_rcnn_dc5", "Mask R-CNN DC5", ("pred_masks",)),
    ],
)
def test_the_examples_are_recognised(model: str, name: str, outputs: tuple[str, ...]) -> None:
    family = family_of(load_config(str(config_of(model)), []))
    assert family.name == name
    assert family.outputs == ("pred_boxes", "scores", "pred_classes", *outputs)
    assert family.num_classes == 3


@pytest.mark.parametrize(
    ("config", "overrides", "named"),
    [
        ("Misc/cascade_mask_rcnn_R_50_FPN_3x.yaml", [], "Cascade R-CNN"),
        ("COCO-PanopticSegmentation/panoptic_fpn_R_50_3x.yaml", [], "PanopticFPN"),
        ("Misc/mask_rcnn_R_50_FPN_3x_dconv_c3-c5.yaml", [], "deformable convolution"),
        ("COCO-Detection/rpn_R_50_FPN_1x.yaml", [], "ProposalNetwork"),
        ("COCO-Detection/fast_rcnn_R_50_FPN_1x.yaml", [], "precomputed proposals"),
        ("Misc/semantic_R_50_FPN_1x.yaml", [], "SemanticSegmentor"),
        (
            "COCO-Detection/faster_rcnn_R_50_FPN_3x.yaml",
            ["MODEL.PROPOSAL_GENERATOR.NAME", "RRPN", "MODEL.ROI_HEADS.NAME", "RROIHeads"],
            "rotated boxes",
        ),
        (
            "COCO-Detection/faster_rcnn_R_50_FPN_3x.yaml",
            ["INPUT.FORMAT", "YUV-BT.601"],
            "INPUT.FORMAT",
        ),
    ],
)
def test_what_is_not_supported_is_refused_by_name(
    config: str, overrides: list[str], named: str
) -> None:
    cfg = load_config(config, ["MODEL.WEIGHTS", "not-even-read.pth", *overrides])
    with pytest.raises(UnsupportedFamily, match=named):
        family_of(cfg)


def test_an_unknown_registered_name_points_to_import() -> None:
    cfg = load_config(
        "COCO-Detection/faster_rcnn_R_50_FPN_3x.yaml", ["MODEL.ROI_HEADS.NAME", "MyHeads"]
    )
    with pytest.raises(ConfigError, match=r"MyHeads is not registered.*--import"):
        family_of(cfg)
