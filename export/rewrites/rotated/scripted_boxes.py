"""How rotated boxes travel in Instances: as RotatedBoxes eagerly, as plain tensors when scripted.

Upstream's generator of scripted Instances writes a syntax error for fields of type ``RotatedBoxes``
(export/torchscript_patch.py, get_fields), and their constructor bakes a device into a trace.
"""

# No `from __future__ import annotations` here: TorchScript cannot read postponed annotations.

from typing import Dict, List  # noqa: UP035  # TorchScript reads these

import torch
from detectron2.modeling.proposal_generator.rrpn import RRPN
from detectron2.modeling.roi_heads import RROIHeads
from detectron2.structures import Instances, RotatedBoxes
from torch import Tensor, nn

# ruff: noqa: UP006
# mypy: disable-error-code="attr-defined, misc, no-any-return, no-untyped-call, untyped-decorator"


def scripted_fields(model: nn.Module) -> Dict[str, type]:
    """Types of Instances' fields that a scripted rotated model has otherwise than upright ones."""
    rotated = any(isinstance(each, (RRPN, RROIHeads)) for each in model.modules())
    return {"proposal_boxes": Tensor, "pred_boxes": Tensor} if rotated else {}


def proposal_boxes_of(proposals: List[Instances]) -> List[Tensor]:
    """(N, 5) of each image's proposals."""
    if torch.jit.is_scripting():
        boxes: List[Tensor] = [each.proposal_boxes for each in proposals]
    else:
        boxes = [each.proposal_boxes.tensor for each in proposals]
    return boxes


@torch.jit.ignore
def as_rotated_boxes(boxes: Tensor) -> RotatedBoxes:
    """The same boxes as detectron2's, for eager and traced models."""
    # Without RotatedBoxes.__init__, in whose trace the device is a constant.
    made = RotatedBoxes.__new__(RotatedBoxes)
    made.tensor = boxes
    return made


NEEDS_NMS = "nms_rotated is a compiled operator of detectron2's, which no server has"
"""Said of every rewrite for whose sake NMS is done in plain operators."""
