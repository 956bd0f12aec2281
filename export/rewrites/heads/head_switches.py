"""Subclasses of detectron2's ROI heads cannot be scripted where they lack a mask or keypoint head.

detectron2 declares ``mask_on`` and ``keypoint_on`` constants on StandardROIHeads itself
(export/torchscript_patch.py). Annotations are looked up on the class alone, so for a subclass, and
for Res5ROIHeads, TorchScript compiles the use of a ``mask_head`` or ``keypoint_pooler`` that is not
there.
"""

# No `from __future__ import annotations` here: TorchScript cannot read postponed annotations.

from typing import Final

from detectron2.modeling.roi_heads import Res5ROIHeads, StandardROIHeads
from torch import nn

from d2serve.export.rewrites.method_overrides import override_methods
from d2serve.export.rewrites.rewrite import SCRIPTING, Rewrite


class _Standard:
    mask_on: Final[bool]  # type: ignore[misc]  # of the module it is mixed into
    keypoint_on: Final[bool]  # type: ignore[misc]


class _Res5:
    mask_on: Final[bool]  # type: ignore[misc]


def _is_subclass(module: nn.Module) -> bool:
    return type(module) is not StandardROIHeads


_REASON = (
    "export/torchscript_patch.py: mask_on and keypoint_on are constants of StandardROIHeads only, "
    "so TorchScript compiles the use of a head that is not there"
)

ROI_HEAD_SWITCHES = Rewrite(
    name="roi_head_switches",
    replaces=StandardROIHeads,
    methods=(),
    needed_for=frozenset({SCRIPTING}),
    reason=_REASON,
    make=override_methods(_Standard),
    applies=_is_subclass,
)
RES5_ROI_HEADS = Rewrite(
    name="res5_roi_heads",
    replaces=Res5ROIHeads,
    methods=(),
    needed_for=frozenset({SCRIPTING}),
    reason=_REASON,
    make=override_methods(_Res5),
)
