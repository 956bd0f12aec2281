"""ViTDet: Mask R-CNN on a plain, narrow vision transformer.

As upstream has it: attention in windows that do not divide the image, global attention in between,
relative positions, and images padded to a square. detectron2's ViT needs timm.
"""

from functools import partial

from detectron2.config import LazyCall as L
from detectron2.modeling import SimpleFeaturePyramid, ViT
from detectron2.modeling.backbone.fpn import LastLevelMaxPool
from torch import nn

from .base_mask_rcnn import model
from .base_shapes import dataloader, lr_multiplier, optimizer, train

__all__ = ["dataloader", "lr_multiplier", "model", "optimizer", "train"]

_SIDE = 256
model.backbone = L(SimpleFeaturePyramid)(
    net=L(ViT)(
        img_size=_SIDE,
        patch_size=16,
        embed_dim=128,
        depth=6,
        num_heads=4,
        drop_path_rate=0.0,
        window_size=7,
        mlp_ratio=4,
        qkv_bias=True,
        norm_layer=partial(nn.LayerNorm, eps=1e-6),
        # Global attention in the third and in the last block.
        window_block_indexes=[0, 1, 3, 4],
        residual_block_indexes=[],
        use_rel_pos=True,
        out_feature="last_feat",
    ),
    in_feature="${.net.out_feature}",
    out_channels=64,
    scale_factors=(2.0, 1.0, 0.5),
    top_block=L(LastLevelMaxPool)(),
    norm="LN",
    square_pad=_SIDE,
)

dataloader.train.mapper.use_instance_mask = True
dataloader.train.mapper.augmentations[0].short_edge_length = (160, 176, 192)
dataloader.train.mapper.augmentations[0].max_size = _SIDE
dataloader.test.mapper.augmentations[0].max_size = _SIDE

train.max_iter = 300
train.imitated_levels = ["p3", "p4", "p5"]
train.init_checkpoint = "examples/shapes/models/vitdet.pth"
