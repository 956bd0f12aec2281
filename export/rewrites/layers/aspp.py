"""``ASPP`` (detectron2/layers/aspp.py): TorchScript cannot read it, and a trace loses a check.

Its list of maps becomes a map under the same name, which TorchScript does not take. Where it pools
in windows of the training crop's size, it refuses maps that the window does not divide. A trace
would go on and answer what detectron2 never answers, so the check is scripted.
"""

# No `from __future__ import annotations` here: TorchScript cannot read postponed annotations.

from typing import Any, List  # noqa: UP035  # TorchScript reads these

import torch
from detectron2.layers import ASPP
from torch import Tensor, nn
from torch.nn import functional

from d2serve.export.rewrites.method_overrides import override_methods
from d2serve.export.rewrites.rewrite import SCRIPTING, TRACING, Rewrite

# ruff: noqa: UP006
# mypy: disable-error-code="attr-defined, untyped-decorator"


@torch.jit.script
def _divided(maps: Tensor, window_height: int, window_width: int) -> Tensor:
    if window_height > 0:
        height, width = maps.shape[-2:]
        if height % window_height != 0 or width % window_width != 0:
            raise ValueError(
                "The image's size does not suit the model: its average pooling needs a multiple "
                "of the window that it was trained with (INPUT.CROP.SIZE)."
            )
    return maps


class _Scriptable:
    def forward(self, maps: Tensor) -> Tensor:
        maps = _divided(maps, self.window_height, self.window_width)
        height, width = maps.shape[-2:]
        found: List[Tensor] = []
        for conv in self.convs:
            found.append(conv(maps))  # TorchScript has no such comprehension
        found[-1] = functional.interpolate(
            found[-1], size=[height, width], mode="bilinear", align_corners=False
        )
        projected: Tensor = self.project(torch.cat(found, dim=1))
        return projected


def _make(module: Any) -> nn.Module:
    window = module.pool_kernel_size or (0, 0)
    module.window_height, module.window_width = int(window[0]), int(window[1])
    return override_methods(_Scriptable)(module)


ASPP_CHECK = Rewrite(
    name="aspp",
    replaces=ASPP,
    methods=("forward",),
    needed_for=frozenset({TRACING, SCRIPTING}),
    reason="layers/aspp.py: a list of maps becomes a map, which TorchScript does not take, and a "
    "trace loses the check of the pooling window",
    make=_make,
)
