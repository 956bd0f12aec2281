"""Why: only a scripted program takes a batch of any length and of mixed sizes.

Upstream's export tool types its input as a tuple of one dict; here it is a list. The program
returns dicts of tensors, since ``Instances`` could not be loaded in another process.
"""

# No `from __future__ import annotations` here: TorchScript cannot read postponed annotations.

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import torch
from detectron2.export import scripting_with_instances
from detectron2.modeling.roi_heads import Res5ROIHeads
from detectron2.structures import Boxes
from torch import Tensor, nn

from d2serve.export.errors import ProgramError, one_line
from d2serve.export.families import Family
from d2serve.export.refusals import where_in_script
from d2serve.export.tracing import Program

# Every field that Instances carries anywhere inside the supported families.
_FIELDS = {
    "proposal_boxes": Boxes,
    "objectness_logits": Tensor,
    "pred_boxes": Boxes,
    "scores": Tensor,
    "pred_classes": Tensor,
    "pred_masks": Tensor,
    "pred_keypoints": Tensor,
    "pred_keypoint_heatmaps": Tensor,
}


class ScriptableRCNN(nn.Module):
    """GeneralizedRCNN up to the ROI masks."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs: list[dict[str, Tensor]]) -> list[dict[str, Tensor]]:
        """Raw instances of each image, in coordinates of the image given."""
        instances = self.model.inference(inputs, None, False)  # type: ignore[operator]
        return [i.get_fields() for i in instances]


class ScriptableRetinaNet(nn.Module):
    """RetinaNet, which ends before its postprocessing when it is scripted."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs: list[dict[str, Tensor]]) -> list[dict[str, Tensor]]:
        """Raw instances of each image, in coordinates of the image given."""
        instances = self.model(inputs)
        return [i.get_fields() for i in instances]


@contextmanager
def _mask_on_is_constant(model: nn.Module) -> Iterator[None]:
    """Let TorchScript leave out the mask head that a Res5ROIHeads without masks does not have.

    detectron2 declares ``mask_on`` constant only for StandardROIHeads (torchscript_patch.py),
    so Faster R-CNN C4 fails on ``self.mask_head`` (modeling/roi_heads/roi_heads.py).
    """
    heads = type(getattr(model, "roi_heads", None))
    if not issubclass(heads, Res5ROIHeads):
        yield
        return
    before = heads.__annotations__
    heads.__annotations__ = {**before, "mask_on": Final[bool]}
    try:
        yield
    finally:
        heads.__annotations__ = before


def script(model: nn.Module, family: Family) -> Program:
    """Script a model.

    Args:
        model: detectron2's, in evaluation mode.
        family: what it is.

    Raises:
        ProgramError: naming the module and line that TorchScript refuses.
    """
    wrapper = ScriptableRCNN(model) if family.is_rcnn else ScriptableRetinaNet(model)
    wrapper.eval()
    try:
        with _mask_on_is_constant(model):
            module = scripting_with_instances(wrapper, _FIELDS)
    except Exception as error:
        raise ProgramError(
            f"The model cannot be scripted: {where_in_script(error)}{one_line(error)}. "
            "Annotate the types of its arguments and use what TorchScript knows, or try "
            "--export-method tracing."
        ) from error
    if not isinstance(module, torch.jit.ScriptModule):
        raise ProgramError(f"Scripting gave a {type(module).__name__}, expected a ScriptModule.")
    return Program(module, ())
