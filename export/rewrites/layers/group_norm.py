"""``nn.GroupNorm`` over no instances at all stops ONNX Runtime.

Its ONNX export reshapes (N, C, H, W) to (0, groups, -1), where 0 means N; with N = 0, as in a head
without instances, -1 stands for nothing that can be computed, and so does every reshape in which
the exporter finds a size that it does not know. Here a group's mean is a convolution of its
channels' means. The same norm in another order of sums: equal within rounding.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from d2serve.export.rewrites.method_overrides import override_methods
from d2serve.export.rewrites.rewrite import ONNX, Rewrite

# mypy: disable-error-code="attr-defined, no-untyped-call"


class _WithoutReshape:
    def forward(self, x: Tensor) -> Tensor:
        centred = x - self.group_mean(x)
        normed = centred / torch.sqrt(self.group_mean(centred * centred) + self.eps)
        if self.affine:
            normed = normed * self.weight[:, None, None] + self.bias[:, None, None]
        return normed

    def group_mean(self, x: Tensor) -> Tensor:
        """(N, C, 1, 1): for each channel, the mean over its group and all pixels."""
        return functional.conv2d(x.mean(dim=(2, 3), keepdim=True), self.averaging)


def _make(module: Any) -> nn.Module:
    size = module.num_channels // module.num_groups
    groups = [torch.full((size, size), 1.0 / size)] * module.num_groups
    module.register_buffer("averaging", torch.block_diag(*groups)[:, :, None, None])
    return override_methods(_WithoutReshape)(module)


GROUP_NORM_ONNX = Rewrite(
    name="group_norm_onnx",
    replaces=nn.GroupNorm,
    methods=("forward",),
    needed_for=frozenset({ONNX}),
    reason="torch/onnx: GroupNorm becomes a Reshape to (0, groups, -1), which onnxruntime refuses "
    "when a head has no instances",
    make=_make,
)
