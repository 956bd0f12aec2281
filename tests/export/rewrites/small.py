"""Small models with random weights, spread so that many detections differ clearly in score."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from detectron2 import model_zoo
from detectron2.config import instantiate
from detectron2.layers import ShapeSpec
from detectron2.modeling import build_model
from detectron2.modeling.backbone import FPN, BasicStem, BottleneckBlock, ResNet
from detectron2.modeling.backbone.fpn import LastLevelMaxPool, LastLevelP6P7
from detectron2.modeling.meta_arch.fcos import FCOS, FCOSHead
from detectron2.projects.point_rend import add_pointrend_config
from torch import nn

from tests.export.rewrites import ways

MEAN, STD = (103.5, 116.3, 123.7), (57.4, 57.1, 58.4)
CLASSES = 3


def resnet(block: type[nn.Module] = BottleneckBlock, **options: Any) -> ResNet:
    """One narrow block per stage, of the given kind from res3 on."""
    stages: list[Sequence[nn.Module]] = []
    channels = 8
    for index, out in enumerate((16, 32, 48, 64)):
        kind, more = (block, options) if index else (BottleneckBlock, {})
        stages.append(
            ResNet.make_stage(
                kind,
                1,
                in_channels=channels,
                out_channels=out,
                bottleneck_channels=out // 2,
                stride_per_block=[1 if index == 0 else 2],
                norm="FrozenBN",
                **more,
            )
        )
        channels = out
    return ResNet(
        BasicStem(3, 8, norm="FrozenBN"), stages, out_features=["res2", "res3", "res4", "res5"]
    )


def fcos(threshold: float = 0.2, **options: Any) -> Any:
    """FCOS on a narrow ResNet and FPN."""
    torch.manual_seed(0)
    backbone = FPN(
        resnet(**options),
        ["res3", "res4", "res5"],
        32,
        top_block=LastLevelP6P7(32, 32, in_feature="p5"),
    )
    head = FCOSHead(
        input_shape=[ShapeSpec(channels=32)] * 5, num_classes=CLASSES, conv_dims=[64], norm="GN"
    )
    model = FCOS(
        backbone=backbone,
        head=head,
        num_classes=CLASSES,
        test_score_thresh=threshold,
        max_detections_per_image=1000,  # a cut at 100 would turn rounding into other instances
        pixel_mean=MEAN,
        pixel_std=STD,
    )
    with torch.no_grad():
        for layer, factor in ((head.cls_score, 60), (head.ctrness, 20), (head.bbox_pred, 60)):
            layer.weight.mul_(factor)
    return model.eval()


def point_rend(*overrides: object) -> Any:
    """A PointRend R-CNN on a narrow FPN."""
    cfg = model_zoo.get_config("COCO-Detection/faster_rcnn_R_50_FPN_3x.yaml")
    add_pointrend_config(cfg)
    cfg.merge_from_list([*_NARROW, *_POINT_REND, *overrides])
    torch.manual_seed(0)
    model = build_model(cfg)
    torch.manual_seed(0)
    # Shallower than the zoo's, on which exporting would take most of the time.
    model.backbone = FPN(
        resnet(), ["res2", "res3", "res4", "res5"], 16, top_block=LastLevelMaxPool()
    )
    levels = model.backbone(model.preprocess_image([{"image": ways.images((96, 128))[0]}]).tensor)
    with torch.no_grad():
        for name, level in zip(("p2", "p3", "p4", "p5"), levels.values()):
            # Random weights without trained norms blow features up.
            getattr(model.backbone, f"fpn_output{name[1]}").weight.div_(level.std())
    implicit = "ImplicitPointHead" in overrides
    _spread_rcnn(
        model,
        "parameter_head.prediction" if implicit else "point_head.predictor",
        30 if implicit else 300,
        scores=1.2,
    )
    return model.eval()


def _spread_rcnn(model: Any, mask_predictor: str, mask_factor: float, scores: float = 0.7) -> None:
    """Give boxes and scores of an R-CNN with random weights a spread."""
    torch.manual_seed(1)
    heads, proposals = model.roi_heads, model.proposal_generator.rpn_head
    for layer, deviation in (
        (proposals.objectness_logits, 1.0),
        (proposals.anchor_deltas, 0.1),
        (heads.box_predictor.cls_score, scores),
        (heads.box_predictor.bbox_pred, 0.5),
    ):
        nn.init.normal_(layer.weight, std=deviation)
    with torch.no_grad():
        heads.mask_head.get_submodule(mask_predictor).weight.mul_(mask_factor)


_NARROW = [
    *("MODEL.DEVICE", "cpu", "MODEL.RESNETS.WIDTH_PER_GROUP", 8, "MODEL.FPN.OUT_CHANNELS", 16),
    *("MODEL.RESNETS.RES2_OUT_CHANNELS", 32, "MODEL.RESNETS.STEM_OUT_CHANNELS", 16),
    *("MODEL.ROI_BOX_HEAD.FC_DIM", 32, "MODEL.ROI_HEADS.NUM_CLASSES", CLASSES),
    *("MODEL.ROI_HEADS.SCORE_THRESH_TEST", 0.3, "TEST.DETECTIONS_PER_IMAGE", 1000),
    *("MODEL.RPN.POST_NMS_TOPK_TEST", 40),
]
_POINT_REND = [
    *("MODEL.MASK_ON", True, "MODEL.ROI_MASK_HEAD.POOLER_TYPE", ""),
    *("MODEL.ROI_MASK_HEAD.NAME", "PointRendMaskHead", "MODEL.ROI_MASK_HEAD.POINT_HEAD_ON", True),
    *("MODEL.ROI_MASK_HEAD.FC_DIM", 32, "MODEL.ROI_MASK_HEAD.CONV_DIM", 8),
    *("MODEL.POINT_HEAD.NUM_CLASSES", CLASSES, "MODEL.POINT_HEAD.FC_DIM", 16),
    *("MODEL.POINT_HEAD.SUBDIVISION_NUM_POINTS", 49, "MODEL.POINT_HEAD.SUBDIVISION_STEPS", 3),
]


def vit_det(square_pad: int = 0, **options: Any) -> Any:
    """A Mask R-CNN on a narrow ViT with windows, global attention and relative positions."""
    torch.manual_seed(0)
    config = model_zoo.get_config("common/models/mask_rcnn_vitdet.py").model
    net = config.backbone.net
    net.img_size, net.embed_dim, net.depth, net.num_heads = 128, 32, 3, 2
    net.window_size, net.window_block_indexes = 3, [0, 2]
    net.residual_block_indexes = options.pop("residual_block_indexes", [])
    net.rel_pos_zero_init = False
    net.pretrain_img_size = 64
    net.update(options)
    config.backbone.out_channels = 16
    config.backbone.square_pad = square_pad
    config.roi_heads.num_classes = CLASSES
    config.proposal_generator.head.in_channels = 16
    config.proposal_generator.post_nms_topk = (60, 60)
    config.roi_heads.box_head.input_shape.channels = 16
    config.roi_heads.box_head.conv_dims, config.roi_heads.box_head.fc_dims = [16], [32]
    config.roi_heads.box_predictor.input_shape.channels = 32
    config.roi_heads.box_predictor.test_score_thresh = 0.4
    config.roi_heads.box_predictor.test_topk_per_image = 1000
    config.roi_heads.mask_head.input_shape.channels = 16
    config.roi_heads.mask_head.conv_dims = [16, 16]
    model = instantiate(config)
    _spread_rcnn(model, "predictor", 100)
    with torch.no_grad():
        for name, parameter in model.backbone.net.named_parameters():
            if "rel_pos" in name or "pos_embed" in name:
                parameter.mul_(20)  # otherwise positions would hardly matter
            if name.endswith(("norm3.weight",)):
                parameter.fill_(1.0)
    return model.eval()
