"""FCOS, anchor-free and of one stage, from a LazyConfig as upstream has it."""

from detectron2.config import LazyCall as L
from detectron2.layers import ShapeSpec
from detectron2.modeling.backbone.fpn import LastLevelP6P7
from detectron2.modeling.meta_arch.fcos import FCOS, FCOSHead

from .base_shapes import (
    backbone,
    dataloader,
    lr_multiplier,
    optimizer,
    pixel_mean,
    pixel_std,
    train,
)

__all__ = ["dataloader", "lr_multiplier", "model", "optimizer", "train"]

backbone.top_block = L(LastLevelP6P7)(in_channels=64, out_channels=64, in_feature="p5")
model = L(FCOS)(
    backbone=backbone,
    head=L(FCOSHead)(
        input_shape=[ShapeSpec(channels=64)] * 5,
        num_classes="${..num_classes}",
        conv_dims=[64, 64],
        prior_prob=0.01,
        norm="GN",
    ),
    head_in_features=["p3", "p4", "p5", "p6", "p7"],
    num_classes=3,
    test_score_thresh=0.2,
    test_nms_thresh=0.6,
    pixel_mean=pixel_mean,
    pixel_std=pixel_std,
)

# Its loss mixes types under autocast.
train.amp.enabled = False
train.max_iter = 250
train.init_checkpoint = "examples/shapes/models/fcos.pth"
