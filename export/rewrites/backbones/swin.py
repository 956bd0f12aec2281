"""Swin: a trace is right at one image size and on one device only, and TorchScript cannot read it.

modeling/backbone/swin.py turns sizes into Python numbers (``int(np.ceil(...))`` in ``BasicLayer``,
``int(...)`` in ``window_reverse``), makes its attention mask on a device that a trace keeps, and
pads where a side is odd. It hands sizes to its blocks as attributes, and its functions have no
types.

In the equivalents features are (B, H, W, C) throughout, so their sizes are always at hand. Values
and their order are upstream's.
"""

# No `from __future__ import annotations` here: TorchScript cannot read postponed annotations.

from typing import Any, Dict, Final, Optional, Tuple  # noqa: UP035  # TorchScript reads these

import torch
from detectron2.modeling.backbone.swin import (
    BasicLayer,
    PatchEmbed,
    PatchMerging,
    SwinTransformer,
    SwinTransformerBlock,
    WindowAttention,
)
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  as everybody names it

from d2serve.export.rewrites.backbones.stages import in_evaluation, with_norms_in_order
from d2serve.export.rewrites.backbones.windows import counted, from_windows, padded, windows_of
from d2serve.export.rewrites.method_overrides import override_methods
from d2serve.export.rewrites.rewrite import SCRIPTING, TRACING, Rewrite

# ruff: noqa: UP006
# mypy: disable-error-code="attr-defined, no-any-return"


class _AnySizeEmbedding:
    def forward(self, x: Tensor) -> Tensor:
        down, across = self.patch_size
        height, width = x.shape[2], x.shape[3]
        right = (across - width % across) % across
        x = self.proj(F.pad(x, [0, right, 0, (down - height % down) % down]))
        if self.norm is not None:
            x = self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return x


class _TypedAttention:
    def forward(self, x: Tensor, mask: Optional[Tensor] = None) -> Tensor:
        count, places, channels = x.shape[0], x.shape[1], x.shape[2]
        heads = self.num_heads
        qkv = self.qkv(x).reshape(count, places, 3, heads, channels // heads)
        qkv = qkv.permute(2, 0, 3, 1, 4)
        attention = (qkv[0] * self.scale) @ qkv[1].transpose(-2, -1)
        bias = self.relative_position_bias_table[self.relative_position_index.view(-1)]
        bias = bias.view(places, places, -1).permute(2, 0, 1).contiguous()
        attention = attention + bias.unsqueeze(0)
        if mask is not None:
            windows = mask.shape[0]
            attention = attention.view(count // windows, windows, heads, places, places)
            attention = attention + mask.unsqueeze(1).unsqueeze(0)
            attention = attention.view(-1, heads, places, places)
        attention = self.attn_drop(self.softmax(attention))
        x = (attention @ qkv[2]).transpose(1, 2).reshape(count, places, channels)
        return self.proj_drop(self.proj(x))


class _AnySizeBlock:
    def forward(self, x: Tensor, mask_matrix: Tensor) -> Tensor:
        batch, height, width, channels = x.shape[0], x.shape[1], x.shape[2], x.shape[3]
        size, shift = self.window_size, self.shift_size
        before = x
        x = padded(self.norm1(x), size)
        if shift > 0:
            x = torch.roll(x, shifts=[-shift, -shift], dims=[1, 2])
        windows = windows_of(x, size).reshape(-1, size * size, channels)
        windows = self.attn(windows, mask_matrix if shift > 0 else None)
        # The padding is cut off only after the shift back.
        down, across = x.shape[1], x.shape[2]
        x = from_windows(windows.view(-1, size, size, channels), size, batch, down, across)
        if shift > 0:
            x = torch.roll(x, shifts=[shift, shift], dims=[1, 2])
        x = before + self.drop_path(x[:, :height, :width])
        return x + self.drop_path(self.mlp(self.norm2(x)))


class _AnySizeMerging:
    def forward(self, x: Tensor) -> Tensor:
        x = F.pad(x, [0, 0, 0, x.shape[2] % 2, 0, x.shape[1] % 2])
        left, right = x[:, :, 0::2], x[:, :, 1::2]
        x = torch.cat([left[:, 0::2], left[:, 1::2], right[:, 0::2], right[:, 1::2]], -1)
        return self.reduction(self.norm(x))


class AnySizeLayer:
    """BasicLayer, of (B, H, W, C): its features, and the same or what the next layer gets."""

    def forward(self, x: Tensor) -> Tuple[Tensor, Tensor]:
        mask = _mask(x, self.window_size, self.shift_size)
        for block in self.blocks:
            x = block(x, mask)
        if self.downsample is not None:
            return x, self.downsample(x)
        return x, x


class _AnySizeSwin:
    ape: Final[bool]  # type: ignore[misc]  # for TorchScript
    # Upstream's property reads an attribute that it does not set.
    __jit_unused_properties__ = ("size_divisibility",)

    def forward(self, x: Tensor) -> Dict[str, Tensor]:
        x = self.patch_embed(x)
        if self.ape:
            size = [x.shape[2], x.shape[3]]
            x = x + F.interpolate(self.absolute_pos_embed, size=size, mode="bicubic")
        x = self.pos_drop(x.permute(0, 2, 3, 1))
        outputs: Dict[str, Tensor] = {}
        for index, (layer, norm) in enumerate(zip(self.layers, self.norms)):
            found, x = layer(x)
            name = self.names[index]
            if name != "":
                outputs[name] = norm(found).permute(0, 3, 1, 2).contiguous()
        return outputs


def _mask(x: Tensor, size: int, shift: int) -> Tensor:
    """(windows, size ** 2, size ** 2): 0 between places of one region, -100 between others."""
    x = padded(x[:1, :, :, :1], size)
    rows = _regions(x[0, :, 0, 0], size, shift)
    columns = _regions(x[0, 0, :, 0], size, shift)
    regions = 3 * rows[:, None] + columns[None, :]
    regions = windows_of(regions[None, :, :, None], size).reshape(-1, size * size)
    return (regions.unsqueeze(1) != regions.unsqueeze(2)).to(x.dtype) * -100.0


def _regions(line: Tensor, size: int, shift: int) -> Tensor:
    """Of each place in a row: 0, then 1 in the last window, then 2 in what is shifted into it."""
    left = counted(line.flip(0)).flip(0)  # how many places come after it
    return (left < size).to(line.dtype) + (left < shift).to(line.dtype)


def _swin(module: Any) -> nn.Module:
    wanted = [
        f"p{index}" if index in module.out_indices else "" for index in range(module.num_layers)
    ]
    norms = [f"norm{index}" if name else None for index, name in enumerate(wanted)]
    return with_norms_in_order(override_methods(_AnySizeSwin)(module), wanted, norms)


_EVERY_WAY = frozenset({TRACING, SCRIPTING})
_FILE = "modeling/backbone/swin.py"

SWIN_EMBEDDING = Rewrite(
    name="swin_embedding",
    replaces=PatchEmbed,
    methods=("forward",),
    needed_for=_EVERY_WAY,
    reason=f"{_FILE}: PatchEmbed pads where a patch does not fit, which a trace keeps",
    make=override_methods(_AnySizeEmbedding),
)
SWIN_ATTENTION = Rewrite(
    name="swin_attention",
    replaces=WindowAttention,
    methods=("forward",),
    needed_for=frozenset({SCRIPTING}),
    reason=f"{_FILE}: WindowAttention.forward takes a mask or None without a type",
    make=override_methods(_TypedAttention),
)
SWIN_BLOCK = Rewrite(
    name="swin_block",
    replaces=SwinTransformerBlock,
    methods=("forward",),
    needed_for=_EVERY_WAY,
    reason=f"{_FILE}: window_reverse turns the size of an image into a Python int, which a trace "
    "keeps; SwinTransformerBlock gets sizes as attributes that are None at first",
    make=in_evaluation(override_methods(_AnySizeBlock)),
)
SWIN_MERGING = Rewrite(
    name="swin_merging",
    replaces=PatchMerging,
    methods=("forward",),
    needed_for=_EVERY_WAY,
    reason=f"{_FILE}: PatchMerging pads only where a side is odd, which a trace keeps",
    make=override_methods(_AnySizeMerging),
)
SWIN_LAYER = Rewrite(
    name="swin_layer",
    replaces=BasicLayer,
    methods=("forward",),
    needed_for=_EVERY_WAY,
    reason=f"{_FILE}: BasicLayer makes its mask on a device and of a size that a trace keeps",
    make=override_methods(AnySizeLayer),
)
SWIN = Rewrite(
    name="swin",
    replaces=SwinTransformer,
    methods=("forward",),
    needed_for=_EVERY_WAY,
    reason=f"{_FILE}: SwinTransformer looks its norms up by name, and hands sizes to its layers",
    make=_swin,
)
