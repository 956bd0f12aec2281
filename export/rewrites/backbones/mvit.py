"""MViTv2: a trace is right at one image size only, and TorchScript cannot read it.

modeling/backbone/mvit.py multiplies sizes with ``np.prod``, and modeling/backbone/utils.py decides
by the size of an image whether to pad to windows and whether to resize positions: a trace keeps
what held for its own image. ``attention_pool`` takes modules, and its functions have no types.
"""

# No `from __future__ import annotations` here: TorchScript cannot read postponed annotations.

from typing import Any, Dict, Final  # noqa: UP035  # TorchScript reads these

import torch
from detectron2.modeling.backbone.mvit import MultiScaleAttention, MultiScaleBlock, MViT
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  as everybody names it

from d2serve.export.rewrites.backbones.stages import in_evaluation, with_norms_in_order
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

# ruff: noqa: UP006
# mypy: disable-error-code="attr-defined, no-any-return"


class _AnySizeAttention:
    use_rel_pos: Final[bool]  # type: ignore[misc]  # for TorchScript
    more_queries: Final[bool]  # type: ignore[misc]

    def forward(self, x: Tensor) -> Tensor:
        batch, height, width, heads = x.shape[0], x.shape[1], x.shape[2], self.num_heads
        qkv = self.qkv(x).reshape(batch, height, width, 3, heads, -1).permute(3, 0, 4, 1, 2, 5)
        qkv = qkv.reshape(3, batch * heads, height, width, -1).permute(0, 1, 4, 2, 3)
        q = self.norm_q(self.pool_q(qkv[0]).permute(0, 2, 3, 1))
        k = self.norm_k(self.pool_k(qkv[1]).permute(0, 2, 3, 1))
        v = self.norm_v(self.pool_v(qkv[2]).permute(0, 2, 3, 1))
        pooled = q
        if hasattr(self, "q_win_size"):
            q = windows_of(padded(q, self.q_win_size), self.q_win_size)
            k = windows_of(padded(k, self.kv_win_size), self.kv_win_size)
            v = windows_of(padded(v, self.kv_win_size), self.kv_win_size)
        x = self._attend(q, k, v)
        if hasattr(self, "q_win_size"):
            size = self.q_win_size
            x = from_windows(x, size, pooled.shape[0], pooled.shape[1], pooled.shape[2])
        if self.residual_pooling:
            x = x + pooled
        down, across = x.shape[1], x.shape[2]
        x = x.view(batch, heads, down, across, -1).permute(0, 2, 3, 1, 4)
        return self.proj(x.reshape(batch, down, across, -1))

    def _attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """(B, H, W, C) of the queries' size; ``k`` and ``v`` may have another."""
        count, height, width = q.shape[0], q.shape[1], q.shape[2]
        down, across = k.shape[1], k.shape[2]
        places = q.reshape(count, height * width, -1)
        attention = (places * self.scale) @ k.reshape(count, down * across, -1).transpose(-2, -1)
        if self.use_rel_pos:
            more = self.more_queries
            rows = _relative(self.rel_pos_h, q[0, :, 0, 0], k[0, :, 0, 0], more)
            columns = _relative(self.rel_pos_w, q[0, 0, :, 0], k[0, 0, :, 0], more)
            rows = torch.einsum("bhwc,hkc->bhwk", q, rows)
            columns = torch.einsum("bhwc,wkc->bhwk", q, columns)
            attention = attention.view(count, height, width, down, across)
            attention = attention + rows[:, :, :, :, None] + columns[:, :, :, None, :]
            attention = attention.view(count, height * width, down * across)
        x = attention.softmax(dim=-1) @ v.reshape(count, down * across, -1)
        return x.view(count, height, width, -1)


class _AnySizeBlock:
    def forward(self, x: Tensor) -> Tensor:
        normed = self.norm1(x)
        attended = self.attn(normed)
        if hasattr(self, "proj"):
            x = self.proj(normed)
        if hasattr(self, "pool_skip"):
            x = self.pool_skip(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        x = x + self.drop_path(attended)
        return x + self.drop_path(self.mlp(self.norm2(x)))


class _AnySizeMViT:
    def forward(self, x: Tensor) -> Dict[str, Tensor]:
        x = self.patch_embed(x)
        if self.pos_embed is not None:
            x = x + absolute_positions(self.pos_embed, self.side, x.shape[1], x.shape[2])
        outputs: Dict[str, Tensor] = {}
        for index, (block, norm) in enumerate(zip(self.blocks, self.norms)):
            x = block(x)
            name = self.names[index]
            if name != "":
                outputs[name] = norm(x).permute(0, 3, 1, 2)
        return outputs


def _relative(positions: Tensor, queries: Tensor, keys: Tensor, more_queries: bool) -> Tensor:
    """(Q, K, C) of (L, C): what lies between each of Q queries and each of K keys in a row.

    ``more_queries`` says which are at least as many, by the strides that made them. Upstream's
    numbers are floats of 64 bits that become 32; of whole numbers below 2 ** 24 the ones here are
    the same: each is one division, rounded once.
    """
    longest = queries.shape[0] if more_queries else keys.shape[0]
    resized = F.interpolate(positions.t().unsqueeze(0), size=2 * longest - 1, mode="linear")
    q_places, k_places = counted(queries), counted(keys)
    q_count, last = q_places[-1] + 1, k_places[-1]
    # abs() keeps OpenVINO from multiplying and subtracting in one step, which rounds otherwise.
    if more_queries:
        scaled = (k_places * _quotient(q_count, last + 1, 256)).abs()
        distances = q_places[:, None] - scaled[None, :]
        distances = distances + _quotient(last * q_count, last + 1, 1)
    else:
        scaled = (q_places * _quotient(last + 1, q_count, 256)).abs()
        distances = scaled[:, None] - k_places[None, :] + last
    return resized[0].t()[distances.long()]


def _quotient(above: Tensor, below: Tensor, steps: int) -> Tensor:
    """``above / below``, rounded as IEEE 754 has it, which OpenVINO's division is not.

    The quotient is taken in two parts, the first in ``steps`` of 1, so that the product of each
    with ``below`` loses nothing that would matter: what is left over tells how far off it is.
    """
    found = above / below
    coarse = (found * steps).floor() / steps
    return found + ((above - coarse * below) - (found - coarse) * below) / below


def _attention(module: Any) -> nn.Module:
    module.more_queries = module.pool_q.stride[0] <= module.pool_k.stride[0]
    return override_methods(_AnySizeAttention)(module)


def _mvit(module: Any) -> nn.Module:
    names = [""] * len(module.blocks)
    for stage, index in enumerate(sorted(module._last_block_indexes), start=2):
        if f"scale{stage}" in module._out_features:
            names[index] = f"scale{stage}"
    norms = [f"{name}_norm" if name else None for name in names]
    return with_norms_in_order(override_methods(_AnySizeMViT)(with_side(module)), names, norms)


_EVERY_WAY = frozenset({TRACING, SCRIPTING})
_FILE = "modeling/backbone/mvit.py"

MVIT_ATTENTION = Rewrite(
    name="mvit_attention",
    replaces=MultiScaleAttention,
    methods=("forward",),
    needed_for=_EVERY_WAY,
    reason=f"{_FILE}: MultiScaleAttention multiplies sizes with np.prod, and pads to windows and "
    "resizes positions by the size of an image, which a trace keeps; attention_pool takes modules",
    make=_attention,
)
MVIT_BLOCK = Rewrite(
    name="mvit_block",
    replaces=MultiScaleBlock,
    methods=("forward",),
    needed_for=frozenset({SCRIPTING}),
    reason=f"{_FILE}: attention_pool, which MultiScaleBlock calls, takes modules",
    make=in_evaluation(override_methods(_AnySizeBlock)),
)
MVIT = Rewrite(
    name="mvit",
    replaces=MViT,
    methods=("forward",),
    needed_for=_EVERY_WAY,
    reason=f"{_FILE}: MViT looks its norms up by name; get_abs_pos decides by the size of an image "
    "whether to resize positions, which a trace keeps",
    make=_mvit,
)
