"""Panoptic-DeepLab's two heads, typed: upstream's name no types and index a ModuleDict.

They answer their maps alone, as the rewritten model asks for no losses.
"""

# No `from __future__ import annotations` here: TorchScript cannot read postponed annotations.

from typing import Any, Dict, Tuple  # noqa: UP035  # TorchScript reads these

from detectron2.projects.panoptic_deeplab import (
    PanopticDeepLabInsEmbedHead,
    PanopticDeepLabSemSegHead,
)
from torch import Tensor, nn

from d2serve.export.rewrites.heads.deeplab import Decoding, use_stages, without_loss
from d2serve.export.rewrites.method_overrides import override_methods
from d2serve.export.rewrites.rewrite import SCRIPTING, TRACING, Rewrite

# ruff: noqa: UP006
# mypy: disable-error-code="attr-defined"

_REASON = (
    "projects/panoptic_deeplab/panoptic_seg.py: the decoder is a ModuleDict indexed with a "
    "variable, and arguments are untyped, which TorchScript does not take"
)


class _Semantic(Decoding):
    def forward(self, features: Dict[str, Tensor]) -> Tensor:
        return self.enlarged(self.predictor(self.head(self.decoded(features))))


class _Instances(Decoding):
    def forward(self, features: Dict[str, Tensor]) -> Tuple[Tensor, Tensor]:
        decoded = self.decoded(features)
        center = self.enlarged(self.center_predictor(self.center_head(decoded)))
        offset = self.enlarged(self.offset_predictor(self.offset_head(decoded)))
        # Offsets are in pixels of the decoder's maps.
        return center, offset * self.common_stride


def _made_with(methods: type) -> Any:
    def make(module: Any) -> nn.Module:
        use_stages(module)
        for loss in ("loss", "center_loss", "offset_loss"):
            without_loss(module, loss)
        return override_methods(methods)(module)

    return make


def _head(name: str, replaces: type, methods: type) -> Rewrite:
    return Rewrite(
        name=name,
        replaces=replaces,
        methods=("forward", "layers"),
        needed_for=frozenset({TRACING, SCRIPTING}),
        reason=_REASON,
        make=_made_with(methods),
    )


PANOPTIC_DEEPLAB_SEMANTIC = _head("panoptic_deeplab_semantic", PanopticDeepLabSemSegHead, _Semantic)
PANOPTIC_DEEPLAB_INSTANCES = _head(
    "panoptic_deeplab_instances", PanopticDeepLabInsEmbedHead, _Instances
)
