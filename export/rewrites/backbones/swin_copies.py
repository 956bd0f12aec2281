"""Swin in a project's own file, of which only the outermost class differs from detectron2's.

So it is in SwinT_detectron2, Detic and Mask2Former: the outputs have other names. That class can be
traced as it is, if its layers take and give sizes that a trace follows.
"""

from __future__ import annotations

from typing import Any

from detectron2.modeling.backbone.swin import (
    BasicLayer,
    PatchEmbed,
    PatchMerging,
    SwinTransformerBlock,
    WindowAttention,
)
from torch import Tensor, nn

from d2serve.export.rewrites.backbones.copies import is_copied
from d2serve.export.rewrites.backbones.swin import (
    SWIN_BLOCK,
    SWIN_EMBEDDING,
    SWIN_LAYER,
    SWIN_MERGING,
    AnySizeLayer,
)
from d2serve.export.rewrites.method_overrides import override_methods
from d2serve.export.rewrites.own_forwards import own_method
from d2serve.export.rewrites.rewrite import TRACING, Rewrite


class _LayerOfCopy:
    downsample: nn.Module | None

    def forward(self, x: Tensor, height: Any, width: Any) -> Any:
        batch, channels = x.shape[0], x.shape[2]
        whole = x.view(batch, height, width, channels)
        found, below = AnySizeLayer.forward(self, whole)  # type: ignore[arg-type]
        found = found.reshape(batch, height * width, channels)
        if self.downsample is None:
            return found, height, width, found, height, width
        down, across = (height + 1) // 2, (width + 1) // 2
        return found, height, width, below.reshape(batch, down * across, -1), down, across


def _is_copy(module: Any, upstream: type[nn.Module]) -> bool:
    return is_copied(type(module), upstream) and own_method(module, "forward") is None


def _is_layer_of_copies(module: Any) -> bool:
    """Whether all that a layer is made of is copied, as all of it is replaced together."""
    return (
        _is_copy(module, BasicLayer)
        and all(_is_copy(block, SwinTransformerBlock) for block in module.blocks)
        and all(_is_copy(block.attn, WindowAttention) for block in module.blocks)
        and (module.downsample is None or _is_copy(module.downsample, PatchMerging))
    )


def _layer(module: Any) -> nn.Module:
    for index, block in enumerate(module.blocks):
        module.blocks[index] = SWIN_BLOCK.make(block)
    if module.downsample is not None:
        module.downsample = SWIN_MERGING.make(module.downsample)
    return override_methods(_LayerOfCopy)(module)


SWIN_LAYER_COPY = Rewrite(
    name="swin_layer_copy",
    replaces=nn.Module,
    methods=(),
    needed_for=frozenset({TRACING}),
    reason=f"a copy of detectron2's: {SWIN_LAYER.reason}",
    make=_layer,
    applies=_is_layer_of_copies,
)
SWIN_EMBEDDING_COPY = Rewrite(
    name="swin_embedding_copy",
    replaces=nn.Module,
    methods=(),
    needed_for=frozenset({TRACING}),
    reason=f"a copy of detectron2's: {SWIN_EMBEDDING.reason}",
    make=SWIN_EMBEDDING.make,
    applies=lambda module: _is_copy(module, PatchEmbed),
)
