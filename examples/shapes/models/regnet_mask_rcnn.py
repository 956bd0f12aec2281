"""Mask R-CNN on a small RegNet-Y."""

from detectron2.config import LazyCall as L
from detectron2.modeling.backbone import FPN
from detectron2.modeling.backbone.fpn import LastLevelMaxPool
from detectron2.modeling.backbone.regnet import RegNet, ResBottleneckBlock, SimpleStem

from .base_mask_rcnn import model
from .base_shapes import dataloader, lr_multiplier, optimizer, train

__all__ = ["dataloader", "lr_multiplier", "model", "optimizer", "train"]

model.backbone = L(FPN)(
    bottom_up=L(RegNet)(
        stem_class=SimpleStem,
        stem_width=16,
        block_class=ResBottleneckBlock,
        depth=12,
        w_a=20.0,
        w_0=24,
        w_m=2.2,
        group_width=8,
        se_ratio=0.25,
        norm="BN",
        out_features=["s2", "s3", "s4"],
    ),
    in_features="${.bottom_up.out_features}",
    out_channels=64,
    norm="BN",
    top_block=L(LastLevelMaxPool)(),
)
dataloader.train.mapper.use_instance_mask = True

train.max_iter = 130
train.imitated_levels = ["p3", "p4", "p5"]
train.init_checkpoint = "examples/shapes/models/regnet_mask_rcnn.pth"
