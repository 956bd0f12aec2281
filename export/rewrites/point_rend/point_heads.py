"""The heads inside PointRend keep their layers in plain lists, which TorchScript cannot read.

``ConvFCHead`` (projects/point_rend/mask_head.py) and ``StandardPointHead``
(projects/point_rend/point_head.py) loop over such lists; ``ImplicitPointHead`` builds its layers
from slices of a tensor through untyped static methods and stops early without instances. Channel
counts are numpy's, which TorchScript takes for no constant.
"""

# No `from __future__ import annotations` here: TorchScript cannot read postponed annotations.

import math
from typing import Any

import numpy as np
import torch
from detectron2.projects.point_rend.mask_head import ConvFCHead
from detectron2.projects.point_rend.point_head import ImplicitPointHead, StandardPointHead
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  as everybody names it

from d2serve.export.rewrites.rewrite import SCRIPTING, TRACING, Rewrite


class TypedConvFCHead(nn.Module):
    """ConvFCHead without its lists; layers keep their names and order."""

    def __init__(self, head: Any) -> None:
        super().__init__()
        self.output_shape: list[int] = [int(size) for size in head.output_shape]
        for name, layer in head.named_children():
            self.add_module(name, _readable(layer))

    def forward(self, x: Tensor) -> Tensor:
        """(R, *output_shape) from (R, C, S, S)."""
        # TorchScript unrolls the loop; convolutions come first, prediction last.
        for name, layer in self.named_children():
            if name == "fc1":
                x = torch.flatten(x, start_dim=1)
            x = layer(x)
            if name.startswith("fc"):
                x = torch.relu(x)
        return x.view([x.shape[0]] + self.output_shape)  # noqa: RUF005  TorchScript has no star


class TypedStandardPointHead(nn.Module):
    """StandardPointHead without its list; layers keep their names and order."""

    def __init__(self, head: Any) -> None:
        super().__init__()
        self.coarse_pred_each_layer: bool = bool(head.coarse_pred_each_layer)
        for name, layer in head.named_children():
            self.add_module(name, _readable(layer))

    def forward(self, fine: Tensor, coarse: Tensor) -> Tensor:
        """(R, C, P) logits."""
        x = torch.cat((fine, coarse), dim=1)
        for name, layer in self.named_children():
            x = layer(x)
            if name != "predictor":
                x = torch.relu(x)
                if self.coarse_pred_each_layer:
                    x = torch.cat((x, coarse), dim=1)
        return x


class TypedImplicitPointHead(nn.Module):
    """ImplicitPointHead, typed; it has no layers of its own."""

    positional_encoding_gaussian_matrix: Tensor

    def __init__(self, head: Any) -> None:
        super().__init__()
        self.image_features: bool = bool(head.image_feature_enabled)
        self.encodes_places: bool = bool(head.positional_encoding_enabled)
        encoding = torch.zeros(2, 0)
        if self.encodes_places:
            encoding = head.positional_encoding_gaussian_matrix
        self.register_buffer(
            "positional_encoding_gaussian_matrix", encoding, persistent=self.encodes_places
        )
        widths = [head.channels] * (head.num_layers - 1)
        self.widths_in: list[int] = [int(n) for n in (head.in_channels, *widths)]
        self.widths_out: list[int] = [int(n) for n in (*widths, head.num_classes)]
        self.sizes: list[int] = [int(n) for n in (*head.num_weight_params, *head.num_bias_params)]

    def forward(self, fine: Tensor, places: Tensor, parameters: Tensor) -> Tensor:
        """(R, C, P) logits."""
        count, points = fine.shape[0], fine.shape[2]
        x = fine
        if self.encodes_places:
            # arxiv.org/abs/2006.10739: random Fourier features of the place within the box.
            turned = 2 * places.reshape(count * points, 2) - 1
            turned = 2 * math.pi * (turned @ self.positional_encoding_gaussian_matrix)
            x = torch.cat([torch.sin(turned), torch.cos(turned)], dim=1)
            x = x.reshape(count, points, 256).permute(0, 2, 1)
            if self.image_features:
                x = torch.cat([x, fine], dim=1)
        layers = len(self.widths_in)
        split = torch.split(parameters, self.sizes, dim=1)
        for index in range(layers):
            weights = split[index].reshape(count, self.widths_out[index], self.widths_in[index])
            bias = split[layers + index].reshape(count, self.widths_out[index], 1)
            x = torch.bmm(weights, x) + bias
            if index < layers - 1:
                x = torch.relu(x)
        return x


def _readable(layer: nn.Module) -> nn.Module:
    for name, value in vars(layer).items():
        if isinstance(value, np.integer):
            setattr(layer, name, int(value))
    # TorchScript cannot ask whether a function is None, as detectron2's Conv2d does.
    if getattr(layer, "activation", None) is F.relu:
        layer.activation = nn.ReLU()
    return layer


CONV_FC_HEAD = Rewrite(
    name="point_rend_coarse_head",
    replaces=ConvFCHead,
    methods=("forward",),
    needed_for=frozenset({SCRIPTING}),
    reason=(
        "projects/point_rend/mask_head.py: ConvFCHead.forward loops over plain lists of layers, "
        "whose sizes are numpy's"
    ),
    make=TypedConvFCHead,
)

STANDARD_POINT_HEAD = Rewrite(
    name="point_rend_point_head",
    replaces=StandardPointHead,
    methods=("forward",),
    needed_for=frozenset({SCRIPTING}),
    reason=(
        "projects/point_rend/point_head.py: StandardPointHead.forward loops over a plain list of "
        "layers, whose sizes are numpy's"
    ),
    make=TypedStandardPointHead,
)

IMPLICIT_POINT_HEAD = Rewrite(
    name="point_rend_implicit_point_head",
    replaces=ImplicitPointHead,
    methods=("forward", "_dynamic_mlp", "_parse_params"),
    needed_for=frozenset({TRACING, SCRIPTING}),
    reason=(
        "projects/point_rend/point_head.py: ImplicitPointHead.forward passes lists of tensors "
        "through untyped static methods, moves a matrix to a device, and stops at a size of 0"
    ),
    make=TypedImplicitPointHead,
)
