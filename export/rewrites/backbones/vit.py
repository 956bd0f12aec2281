"""ViT and its pyramid: a trace is right at one image size only, and TorchScript cannot read them.

modeling/backbone/utils.py decides by the size of an image in Python: ``window_partition`` and
``window_unpartition`` whether to pad, ``get_rel_pos`` (through ``int()``) and ``get_abs_pos``
whether to resize positions. A trace keeps what held for its own image, and answers others wrongly
without a word, unless ``square_pad`` makes all images one size. The same functions take sizes
without types, and ``SimpleFeaturePyramid`` (modeling/backbone/vit.py) keeps its stages in a list.

The equivalents change no weight of a module, only its class.
"""

# No `from __future__ import annotations` here: TorchScript cannot read postponed annotations.

import copy
from typing import Final

import torch
from detectron2.modeling.backbone.vit import Attention, Block, SimpleFeaturePyramid, ViT
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  as everybody names it

from d2serve.export.rewrites.backbones.stages import in_evaluation
from d2serve.export.rewrites.backbones.windows import (
    absolute_positions,
    counted,
    from_windows,
    padded,
    windows_of,
    with_side,
)
from d2serve.export.rewrites.method_overrides import override_methods
from d2serve.export.rewrites.rewrite import SCRIPTING, TRACING, Rewrite


class AnySizeAttention(Attention):  # type: ignore[misc]
    """Attention whose relative positions follow the size of its input."""

    use_rel_pos: Final[bool]  # type: ignore[misc]  # for TorchScript

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) in and out."""
        batch, height, width = x.shape[0], x.shape[1], x.shape[2]
        qkv = self.qkv(x).reshape(batch, height * width, 3, self.num_heads, -1)
        qkv = qkv.permute(2, 0, 3, 1, 4).reshape(3, batch * self.num_heads, height * width, -1)
        q, k, v = qkv[0], qkv[1], qkv[2]
        attention = (q * self.scale) @ k.transpose(-2, -1)
        if self.use_rel_pos:
            places = q.reshape(q.shape[0], height, width, q.shape[2])
            rows = torch.einsum("bhwc,hkc->bhwk", places, _relative(self.rel_pos_h, height))
            columns = torch.einsum("bhwc,wkc->bhwk", places, _relative(self.rel_pos_w, width))
            attention = attention.view(q.shape[0], height, width, height, width)
            attention = attention + rows[:, :, :, :, None] + columns[:, :, :, None, :]
            attention = attention.view(q.shape[0], height * width, height * width)
        attention = attention.softmax(dim=-1)
        x = (attention @ v).view(batch, self.num_heads, height, width, -1)
        x = x.permute(0, 2, 3, 1, 4).reshape(batch, height, width, -1)
        projected: Tensor = self.proj(x)
        return projected


class AnySizeBlock(Block):  # type: ignore[misc]
    """Block that always pads to whole windows, by nothing where they are whole."""

    use_residual_block: Final[bool]  # type: ignore[misc]  # for TorchScript

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) in and out."""
        before = x
        x = self.norm1(x)
        if self.window_size > 0:
            batch, height, width = x.shape[0], x.shape[1], x.shape[2]
            size = self.window_size
            x = self.attn(windows_of(padded(x, size), size))
            x = from_windows(x, size, batch, height, width)
        else:
            x = self.attn(x)
        x = before + self.drop_path(x)
        x = x + self.drop_path(self.mlp(self.norm2(x)))
        if self.use_residual_block:
            x = self.residual(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return x


class AnySizeViT(ViT):  # type: ignore[misc]
    """ViT whose absolute positions follow the size of its input."""

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """The last features, by their name."""
        x = self.patch_embed(x)
        if self.pos_embed is not None:
            x = x + absolute_positions(self.pos_embed, self.side, x.shape[1], x.shape[2])
        for block in self.blocks:
            x = block(x)
        return {self._out_features[0]: x.permute(0, 3, 1, 2)}


class ScriptablePyramid(SimpleFeaturePyramid):  # type: ignore[misc]
    """SimpleFeaturePyramid whose stages TorchScript can walk through."""

    def __prepare_scriptable__(self) -> nn.Module:
        # As detectron2 does for its FPN (export/torchscript_patch.py): a list that TorchScript
        # knows, in place of the stages' names. Names stay as they are outside of TorchScript.
        prepared = copy.copy(self)
        stages = prepared.__dict__.pop("stages")
        prepared._modules = {
            name: module
            for name, module in self._modules.items()
            if not any(module is stage for stage in stages)
        }
        prepared.stages = nn.ModuleList(stages)
        return prepared

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Features by name, from high to low resolution."""
        below = self.net(x)
        features = below[self.in_feature]
        results: list[Tensor] = []
        for stage in self.stages:
            results.append(stage(features))
        if self.top_block is not None:
            if self.top_block.in_feature in below:
                top = below[self.top_block.in_feature]
            else:
                top = results[self._out_features.index(self.top_block.in_feature)]
            results.extend(self.top_block(top))
        found: dict[str, Tensor] = {}
        for name, result in zip(self._out_features, results):
            found[name] = result
        return found


def _relative(positions: Tensor, size: int) -> Tensor:
    """(size, size, C) of (L, C): what lies between each pair of ``size`` places in a row."""
    resized = F.interpolate(positions.t().unsqueeze(0), size=2 * size - 1, mode="linear")
    places = counted(resized[0, 0, :size]).long()
    return resized[0].t()[places[:, None] - places[None, :] + size - 1]


_EVERY_WAY = frozenset({TRACING, SCRIPTING})

VIT_ATTENTION = Rewrite(
    name="vit_attention",
    replaces=Attention,
    methods=("forward",),
    needed_for=_EVERY_WAY,
    reason=(
        "modeling/backbone/utils.py: get_rel_pos turns the size of an image into a Python int, "
        "which a trace keeps; add_decomposed_rel_pos has no types"
    ),
    make=override_methods(AnySizeAttention),
)

VIT_BLOCK = Rewrite(
    name="vit_block",
    replaces=Block,
    methods=("forward",),
    needed_for=_EVERY_WAY,
    reason=(
        "modeling/backbone/utils.py: window_partition and window_unpartition decide by the size of "
        "an image whether to pad, which a trace keeps, and have no types"
    ),
    make=in_evaluation(override_methods(AnySizeBlock)),
)

VIT_POSITIONS = Rewrite(
    name="vit_positions",
    replaces=ViT,
    methods=("forward",),
    needed_for=_EVERY_WAY,
    reason=(
        "modeling/backbone/utils.py: get_abs_pos decides by the size of an image whether to resize "
        "positions, which a trace keeps, and has no types"
    ),
    make=lambda module: override_methods(AnySizeViT)(with_side(module)),
)

SIMPLE_FEATURE_PYRAMID = Rewrite(
    name="simple_feature_pyramid",
    replaces=SimpleFeaturePyramid,
    methods=("forward",),
    needed_for=frozenset({SCRIPTING}),
    reason=(
        "modeling/backbone/vit.py: SimpleFeaturePyramid.forward loops over a plain list of stages"
    ),
    make=override_methods(ScriptablePyramid),
)
