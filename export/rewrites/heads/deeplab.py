"""DeepLab's heads (projects/deeplab/semantic_seg.py) cannot be scripted.

``DeepLabV3PlusHead`` indexes a ModuleDict with a variable and calls ``F.interpolate`` untyped, and
both heads name no types. Here the stages of the decoder are a ModuleList, in the order in which
they run. Panoptic-DeepLab's heads stand on the same decoder.
"""

# No `from __future__ import annotations` here: TorchScript cannot read postponed annotations.

from typing import Any, Dict, List, Optional, Tuple  # noqa: UP035  # TorchScript reads these

import torch
from detectron2.projects.deeplab.semantic_seg import DeepLabV3Head, DeepLabV3PlusHead
from torch import Tensor, nn
from torch.nn import functional

from d2serve.export.rewrites.heads.semantic_fpn import Enlarging
from d2serve.export.rewrites.method_overrides import override_methods
from d2serve.export.rewrites.rewrite import SCRIPTING, Rewrite

# ruff: noqa: UP006
# mypy: disable-error-code="attr-defined"


class _Stage(nn.Module):
    """One level of the decoder: its features, and what came from the level above, in one map."""

    def __init__(self, project: nn.Module, fuse: nn.Module) -> None:
        super().__init__()
        self.project = project
        self.fuse = fuse

    def forward(self, features: Tensor, above: Tensor) -> Tensor:
        projected: Tensor = self.project(features)
        height, width = projected.shape[-2:]
        above = functional.interpolate(
            above, size=[height, width], mode="bilinear", align_corners=False
        )
        fused: Tensor = self.fuse(torch.cat([projected, above], dim=1))
        return fused


class Decoding(Enlarging):
    """The decoder of DeepLab v3+, which Panoptic-DeepLab's heads have as well."""

    def decoded(self, features: Dict[str, Tensor]) -> Tensor:
        """(N, C, H, W) features of the finest level."""
        levels: List[Tensor] = [features[name] for name in self.levels]
        result: Tensor = self.coarsest(levels[0])
        for index, stage in enumerate(self.stages):
            result = stage(levels[index + 1], result)
        return result


class _V3Plus(Decoding):
    def forward(
        self,
        features: Dict[str, Tensor],
        targets: Optional[Tensor] = None,  # noqa: ARG002  # the interface of the head
    ) -> Tuple[Tensor, Dict[str, Tensor]]:
        return self.enlarged(self.predictor(self.decoded(features))), {}


class _V3(Enlarging):
    def forward(
        self,
        features: Dict[str, Tensor],
        targets: Optional[Tensor] = None,  # noqa: ARG002  # the interface of the head
    ) -> Tuple[Tensor, Dict[str, Tensor]]:
        return self.enlarged(self.predictor(self.aspp(features[self.level]))), {}


def use_stages(module: Any) -> None:
    """Turn a head's dict of stages into what ``Decoding`` runs."""
    levels = list(module.in_features[::-1])
    decoder = module.decoder
    del module.decoder
    module.levels = levels
    module.coarsest = decoder[levels[0]]["project_conv"]
    module.stages = nn.ModuleList(
        _Stage(decoder[level]["project_conv"], decoder[level]["fuse_conv"]) for level in levels[1:]
    )


def without_loss(module: Any, name: str = "loss") -> None:
    """Drop what only training uses, some of which TorchScript cannot read."""
    if hasattr(module, name):
        delattr(module, name)


def _make_v3_plus(module: Any) -> nn.Module:
    use_stages(module)
    without_loss(module)
    return override_methods(_V3Plus)(module)


def _make_v3(module: Any) -> nn.Module:
    module.level = module.in_features[0]
    without_loss(module)
    return override_methods(_V3)(module)


DEEPLAB_V3_PLUS_HEAD = Rewrite(
    name="deeplab_v3_plus_head",
    replaces=DeepLabV3PlusHead,
    methods=("forward", "layers"),
    needed_for=frozenset({SCRIPTING}),
    reason="projects/deeplab/semantic_seg.py: a ModuleDict is indexed with a variable and "
    "arguments are untyped, which TorchScript does not take",
    make=_make_v3_plus,
    # Panoptic-DeepLab's heads are subclasses with a decoder only.
    applies=lambda module: not module.decoder_only,
)
DEEPLAB_V3_HEAD = Rewrite(
    name="deeplab_v3_head",
    replaces=DeepLabV3Head,
    methods=("forward",),
    needed_for=frozenset({SCRIPTING}),
    reason="projects/deeplab/semantic_seg.py: arguments are untyped, which TorchScript does not "
    "take",
    make=_make_v3,
)
