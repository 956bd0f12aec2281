"""``Res5ROIHeads`` without masks (detectron2/modeling/roi_heads/roi_heads.py) cannot be scripted.

detectron2 declares ``mask_on`` a constant for StandardROIHeads only (export/torchscript_patch.py),
so TorchScript compiles the use of a ``mask_head`` that is not there.
"""

# No `from __future__ import annotations` here: TorchScript cannot read postponed annotations.

from typing import Final

from detectron2.modeling.roi_heads import Res5ROIHeads

from d2serve.export.rewrites.mixing import with_methods
from d2serve.export.rewrites.rewrite import SCRIPTING, Rewrite


class _Scriptable:
    mask_on: Final[bool]  # type: ignore[misc]  # of the module it is mixed into


RES5_ROI_HEADS = Rewrite(
    name="res5_roi_heads",
    replaces=Res5ROIHeads,
    methods=(),
    needed_for=frozenset({SCRIPTING}),
    reason="export/torchscript_patch.py: mask_on is no constant of Res5ROIHeads, so TorchScript "
    "compiles the use of a mask_head that is not there",
    make=with_methods(_Scriptable),
)
