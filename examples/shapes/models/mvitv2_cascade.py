"""Cascade Mask R-CNN on a small MViTv2, as upstream's projects have it.

Attention pools its queries, keys and values, partly inside windows, with relative positions that
are resized to each image. detectron2's MViT needs timm.
"""

from functools import partial

from detectron2.config import LazyCall as L
from detectron2.layers import ShapeSpec
from detectron2.modeling import MViT
from detectron2.modeling.backbone import FPN
from detectron2.modeling.backbone.fpn import LastLevelMaxPool
from detectron2.modeling.box_regression import Box2BoxTransform
from detectron2.modeling.matcher import Matcher
from detectron2.modeling.roi_heads import (
    CascadeROIHeads,
    FastRCNNConvFCHead,
    FastRCNNOutputLayers,
)
from torch import nn

from .base_mask_rcnn import model
from .base_shapes import dataloader, lr_multiplier, optimizer, train

__all__ = ["dataloader", "lr_multiplier", "model", "optimizer", "train"]

model.backbone = L(FPN)(
    bottom_up=L(MViT)(
        img_size=256,
        embed_dim=24,
        depth=8,
        num_heads=1,
        last_block_indexes=(0, 2, 5, 7),
        # In places of the first features, at a quarter of the image's size.
        adaptive_window_size=24,
        residual_pooling=True,
        drop_path_rate=0.05,
        norm_layer=partial(nn.LayerNorm, eps=1e-6),
        out_features=("scale3", "scale4", "scale5"),
    ),
    in_features="${.bottom_up.out_features}",
    out_channels=64,
    norm="LN",
    top_block=L(LastLevelMaxPool)(),
)

for _key in ("box_head", "box_predictor", "proposal_matcher"):
    model.roi_heads.pop(_key)
model.roi_heads.update(
    _target_=CascadeROIHeads,
    box_heads=[
        L(FastRCNNConvFCHead)(
            input_shape=ShapeSpec(channels=64, height=7, width=7), conv_dims=[], fc_dims=[64, 64]
        )
        for _stage in range(3)
    ],
    box_predictors=[
        L(FastRCNNOutputLayers)(
            input_shape=ShapeSpec(channels=64),
            test_score_thresh=0.05,
            box2box_transform=L(Box2BoxTransform)(weights=(_xy, _xy, _wh, _wh)),
            cls_agnostic_bbox_reg=True,
            num_classes="${...num_classes}",
        )
        for _xy, _wh in ((10, 5), (20, 10), (30, 15))
    ],
    proposal_matchers=[
        L(Matcher)(thresholds=[_overlap], labels=[0, 1], allow_low_quality_matches=False)
        for _overlap in (0.5, 0.6, 0.7)
    ],
)
dataloader.train.mapper.use_instance_mask = True

train.max_iter = 300
train.imitated_levels = ["p3", "p4", "p5"]
train.init_checkpoint = "examples/shapes/models/mvitv2_cascade.pth"
