"""``SemSegFPNHead`` (detectron2/modeling/meta_arch/semantic_seg.py) cannot be scripted.

Its arguments are untyped and ``scale_heads`` is a plain list of modules, which TorchScript cannot
iterate. Here they are a ModuleList.
"""

# No `from __future__ import annotations` here: TorchScript cannot read postponed annotations.

from typing import Any, Dict, Optional, Tuple  # noqa: UP035  # TorchScript reads these

from detectron2.modeling.meta_arch.semantic_seg import SemSegFPNHead
from torch import Tensor, nn
from torch.nn import functional

from d2serve.export.rewrites.method_overrides import override_methods
from d2serve.export.rewrites.rewrite import SCRIPTING, Rewrite

# ruff: noqa: UP006


class Enlarging:
    """The last step of the heads that label pixels."""

    def enlarged(self, maps: Tensor) -> Tensor:
        """Maps of the head's size at that of the image."""
        return functional.interpolate(
            maps,
            scale_factor=float(self.common_stride),  # type: ignore[attr-defined]
            mode="bilinear",
            align_corners=False,
        )


class _Scriptable(Enlarging):
    def forward(
        self,
        features: Dict[str, Tensor],
        targets: Optional[Tensor] = None,  # noqa: ARG002  # the interface of the head
    ) -> Tuple[Tensor, Dict[str, Tensor]]:
        return self.enlarged(self.layers(features)), {}

    def layers(self, features: Dict[str, Tensor]) -> Tensor:
        levels = [features[name] for name in self.in_features]  # type: ignore[attr-defined]
        total = levels[0]
        for index, head in enumerate(self.scale_heads):  # type: ignore[attr-defined]
            scaled = head(levels[index])
            total = scaled if index == 0 else total + scaled
        logits: Tensor = self.predictor(total)  # type: ignore[attr-defined]
        return logits


def _make(module: Any) -> nn.Module:
    heads = module.scale_heads
    for name in module.in_features:  # the same modules, under one name instead of two
        delattr(module, name)
    del module.scale_heads
    module.scale_heads = nn.ModuleList(heads)
    return override_methods(_Scriptable)(module)


SEM_SEG_FPN_HEAD = Rewrite(
    name="sem_seg_fpn_head",
    replaces=SemSegFPNHead,
    methods=("forward", "layers"),
    needed_for=frozenset({SCRIPTING}),
    reason="modeling/meta_arch/semantic_seg.py: scale_heads is a plain list of modules and "
    "arguments are untyped, which TorchScript does not take",
    make=_make,
)
