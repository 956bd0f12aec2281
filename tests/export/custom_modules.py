"""Modules of a user's own, as ``--import`` finds them.

mypy's own comments cannot stand in a method that TorchScript reads: it takes them for types.
"""

from __future__ import annotations

from typing import Any

import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, ROI_HEADS_REGISTRY, Backbone
from detectron2.modeling.roi_heads import CascadeROIHeads, StandardROIHeads
from torch import nn


class _Strided(Backbone):  # type: ignore[misc]  # detectron2 is untyped
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 7, stride=4, padding=3)
        self.res4 = nn.Conv2d(16, 32, 3, stride=4, padding=1)

    def output_shape(self) -> dict[str, ShapeSpec]:
        return {"res4": ShapeSpec(channels=32, stride=16)}

    def features(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.res4(torch.relu(self.stem(x))))


class PlainBackbone(_Strided):
    """Two convolutions: can be traced and scripted."""

    def forward(self, x: torch.Tensor):
        return {"res4": self.features(x)}


class UnscriptableBackbone(_Strided):
    """Uses what TorchScript does not know."""

    def forward(self, x: torch.Tensor):
        scale = sum(i for i in {1: 1} if (lambda v: v > 0)(i))  # the refused line
        return {"res4": self.features(x) * scale}


class UntraceableBackbone(_Strided):
    """Leaves PyTorch on the way, so that a trace holds its first answer for ever."""

    def forward(self, x: torch.Tensor):
        brightness = float(x.mean())  # becomes a constant in a trace
        return {"res4": self.features(x) * (1.0 + abs(brightness))}


class RaisingBackbone(_Strided):
    """Cannot be run at all while it is traced."""

    def forward(self, x: torch.Tensor):
        if torch._C._get_tracing_state() is not None:
            raise TypeError("this layer has no symbolic form")  # the raising line
        return {"res4": self.features(x)}


if "OverridingCascadeHeads" not in ROI_HEADS_REGISTRY:

    @ROI_HEADS_REGISTRY.register()
    class OverridingCascadeHeads(CascadeROIHeads):  # type: ignore[misc]
        """Changes what the rewrite of CascadeROIHeads replaces."""

        def _run_stage(self, features: Any, proposals: Any, stage: int) -> Any:
            return super()._run_stage(features, proposals, stage)


if "WideImageHeads" not in ROI_HEADS_REGISTRY:

    @ROI_HEADS_REGISTRY.register()
    class WideImageHeads(StandardROIHeads):  # type: ignore[misc]
        """Keeps large boxes only where an image is wide."""

        limit = 1000

        def forward(self, images: Any, features: Any, proposals: Any, targets: Any = None) -> Any:
            instances, losses = super().forward(images, features, proposals, targets)
            if images.tensor.shape[-1] > self.limit:  # wide?
                instances = [each[each.pred_boxes.area() > 64 * 64] for each in instances]
            return instances, losses

    @ROI_HEADS_REGISTRY.register()
    class VastImageHeads(WideImageHeads):
        """The same for images that are wider than the model's input ever is."""

        limit = 5000


for _class in (PlainBackbone, UnscriptableBackbone, UntraceableBackbone, RaisingBackbone):

    def _build(_cfg: Any, _input_shape: ShapeSpec, _class: type[Backbone] = _class) -> Backbone:
        return _class()

    _build.__name__ = f"build_{_class.__name__}"
    if _build.__name__ not in BACKBONE_REGISTRY:
        BACKBONE_REGISTRY.register(_build)


def add_custom_config(cfg: Any) -> None:
    """Declares a config key of the user's own, as detectron2's projects do."""
    cfg.MODEL.CUSTOM_DEPTH = 2
