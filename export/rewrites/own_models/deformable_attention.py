"""Multi-scale deformable attention in tensors, for the set predictors that stand on it.

Deformable DETR's operator exists as a CUDA extension, and every project brings a copy of the module
around it, with a slow equivalent in Python that counts in the sizes of the feature maps: a trace
would hold those of one image. The copies are found by the names of their classes and arguments.

The sampling is ``grid_sample`` of each level at the places of each query, weighed and summed
(Deformable DETR, https://arxiv.org/abs/2010.04159, equation 3).
"""

from __future__ import annotations

import importlib.util
import inspect
import sys
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from d2serve.export.rewrites.method_overrides import override_methods
from d2serve.export.rewrites.rewrite import TRACING, Rewrite

_OPERATOR = "MultiScaleDeformableAttention"
_ATTENTION = "MSDeformAttn"
_ENCODER = "MSDeformAttnTransformerEncoderOnly"
_REASON = (
    "the project's ms_deform_attn.py: its operator is a CUDA extension, and its equivalent takes "
    "the sizes of feature maps as Python numbers"
)


def let_projects_be_imported() -> None:
    """Where the operator is not compiled, let a project's module be imported without it.

    Such a module asks for the operator when it is imported, and has an equivalent for CPUs that it
    takes where the operator fails, as it does here: there is nothing in what stands for it.
    """
    if _OPERATOR not in sys.modules and importlib.util.find_spec(_OPERATOR) is None:
        sys.modules[_OPERATOR] = ModuleType(_OPERATOR, "Stands for an operator that is not here.")


class _Attention:
    def forward(
        self,
        query: Tensor,
        reference_points: Tensor,
        input_flatten: Tensor,
        input_spatial_shapes: Tensor,
        input_level_start_index: Tensor,
        input_padding_mask: Tensor | None = None,
    ) -> Tensor:
        this: Any = self
        images, queries = query.shape[0], query.shape[1]
        value = this.value_proj(input_flatten)
        if input_padding_mask is not None:
            value = value.masked_fill(input_padding_mask[..., None], 0.0)
        value = value.unflatten(2, (this.n_heads, -1))
        per_level = (images, queries, this.n_heads, this.n_levels, this.n_points)
        offsets = this.sampling_offsets(query).view(*per_level, 2)
        weights = this.attention_weights(query).view(*per_level[:3], -1)
        weights = functional.softmax(weights, -1).view(per_level)
        if reference_points.shape[-1] == 2:
            reach = offsets / input_spatial_shapes.flip(-1)[None, None, None, :, None]
            places = reference_points[:, :, None, :, None] + reach
        else:  # boxes: their centre and size
            sizes = reference_points[:, :, None, :, None, 2:]
            places = reference_points[:, :, None, :, None, :2] + (
                offsets / this.n_points * sizes * 0.5
            )
        sampled = _sampled(
            value, input_spatial_shapes, input_level_start_index, 2 * places - 1, this.n_levels
        )
        weights = weights.transpose(1, 2).flatten(3).flatten(0, 1)[:, None]
        summed = (sampled * weights).sum(-1)
        output: Tensor = this.output_proj(summed.view(images, -1, queries).transpose(1, 2))
        return output


def _sampled(value: Tensor, shapes: Tensor, starts: Tensor, grids: Tensor, levels: int) -> Tensor:
    """(images * heads, channels, queries, levels * points) values at the places of queries.

    Args:
        value: (images, pixels of all levels, heads, channels).
        shapes: (levels, 2) height and width of each level.
        starts: (levels,) its first pixel.
        grids: (images, queries, heads, levels, points, 2), as ``grid_sample`` takes places.
    """
    by_channel = value.flatten(2).transpose(1, 2)
    samples = []
    for level in range(levels):
        height, width, start = shapes[level, 0], shapes[level, 1], starts[level]
        pixels = by_channel[:, :, start : start + height * width]
        plane = pixels.reshape([-1, value.shape[3], height, width])  # type: ignore[list-item]
        grid = grids[:, :, :, level].transpose(1, 2).flatten(0, 1)
        samples.append(functional.grid_sample(plane, grid, "bilinear", "zeros", False))
    return torch.stack(samples, -2).flatten(-2)


class _Encoder:
    def forward(
        self, srcs: list[Tensor], pos_embeds: list[Tensor]
    ) -> tuple[Tensor, Tensor, Tensor]:
        this: Any = self
        pixels = torch.cat([src.flatten(2).transpose(1, 2) for src in srcs], 1)
        positions = torch.cat(
            [
                each.flatten(2).transpose(1, 2) + this.level_embed[level].view(1, 1, -1)
                for level, each in enumerate(pos_embeds)
            ],
            1,
        )
        shapes = torch.stack([torch._shape_as_tensor(src)[2:] for src in srcs]).to(pixels.device)
        ends = shapes.prod(1).cumsum(0)
        starts = torch.cat([torch.zeros_like(ends[:1]), ends[:-1]])
        # No pixel is padding here, as the project itself has it.
        centres = torch.cat([_centres(src) for src in srcs], 1)[:, :, None]
        places = centres.repeat(pixels.shape[0], 1, len(srcs), 1)
        for layer in this.encoder.layers:
            pixels = layer(pixels, positions, places, shapes, starts, None)
        return pixels, shapes, starts


def _centres(plane: Tensor) -> Tensor:
    """(1, H * W, 2) x and y of the centres of pixels, in parts of width and height."""
    ones = torch.ones_like(plane[0, 0])
    x = (ones.cumsum(1) - 0.5) / ones.sum(1, keepdim=True)
    y = (ones.cumsum(0) - 0.5) / ones.sum(0, keepdim=True)
    return torch.stack([x, y], -1).view(1, -1, 2)


def _is(module: nn.Module, name: str, arguments: list[str]) -> bool:
    if name not in {base.__name__ for base in type(module).__mro__}:
        return False
    return list(inspect.signature(type(module).forward).parameters)[1:] == arguments


DEFORMABLE_ATTENTION = Rewrite(
    name="deformable_attention",
    replaces=nn.Module,
    methods=(),
    needed_for=frozenset({TRACING}),
    reason=_REASON,
    make=override_methods(_Attention),
    applies=lambda module: _is(
        module, _ATTENTION, list(inspect.signature(_Attention.forward).parameters)[1:]
    ),
)
DEFORMABLE_ENCODER = Rewrite(
    name="deformable_encoder",
    replaces=nn.Module,
    methods=(),
    needed_for=frozenset({TRACING}),
    reason=_REASON,
    make=override_methods(_Encoder),
    applies=lambda module: _is(module, _ENCODER, ["srcs", "pos_embeds"]),
)
