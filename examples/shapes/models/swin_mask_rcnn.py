"""Mask R-CNN on a small Swin, in windows of seven places that divide no side of most images."""

from detectron2.config import LazyCall as L
from detectron2.modeling import SwinTransformer
from detectron2.modeling.backbone import FPN
from detectron2.modeling.backbone.fpn import LastLevelMaxPool

from .base_mask_rcnn import model
from .base_shapes import dataloader, lr_multiplier, optimizer, train

__all__ = ["dataloader", "lr_multiplier", "model", "optimizer", "train"]

model.backbone = L(FPN)(
    bottom_up=L(SwinTransformer)(
        embed_dim=24,
        depths=[2, 2, 4, 2],
        num_heads=[1, 2, 4, 8],
        window_size=7,
        # More than 0 would need timm.
        drop_path_rate=0.0,
        out_indices=(1, 2, 3),
    ),
    in_features=("p1", "p2", "p3"),
    out_channels=64,
    norm="LN",
    top_block=L(LastLevelMaxPool)(),
)
dataloader.train.mapper.use_instance_mask = True

train.max_iter = 300
train.imitated_levels = ["p3", "p4", "p5"]
train.init_checkpoint = "examples/shapes/models/swin_mask_rcnn.pth"
