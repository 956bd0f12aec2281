"""Scripts a model: only a scripted program takes a batch of any length and of mixed sizes.

Upstream's export tool types its input as a tuple of one dict; here it is a list. The program
returns dicts of tensors, since ``Instances`` could not be loaded in another process.
"""

from __future__ import annotations

import torch
from detectron2.export import scripting_with_instances
from detectron2.structures import Boxes
from torch import Tensor, nn

from d2serve.export.errors import ProgramError
from d2serve.export.failures import in_short, logged, nothing_printed
from d2serve.export.programs.repeatable_scripting import repeatable_scripting
from d2serve.export.programs.torchscript_errors import where_in_script
from d2serve.export.programs.tracing import TorchScriptProgram
from d2serve.export.rewrites.rotated.scripted_boxes import scripted_fields

FIELDS = {
    "proposal_boxes": Boxes,
    "objectness_logits": Tensor,
    "pred_boxes": Boxes,
    "scores": Tensor,
    "pred_classes": Tensor,
    "pred_masks": Tensor,
    "pred_keypoints": Tensor,
    "pred_keypoint_heatmaps": Tensor,
}
"""Every field that Instances carries anywhere inside the supported families."""


def script(model: nn.Module) -> TorchScriptProgram:
    """Script a model.

    Args:
        model: of ``rewrites.registry.exportable``, in evaluation mode.

    Raises:
        ProgramError: naming the module and line that TorchScript refuses.
    """
    try:
        with nothing_printed(), repeatable_scripting():
            module = scripting_with_instances(model, {**FIELDS, **scripted_fields(model)})
    except Exception as error:
        raise ProgramError(
            f"The model cannot be scripted: {where_in_script(error)}{in_short(error)}. "
            "Annotate the types of its arguments and use what TorchScript knows, or try "
            f"--export-method tracing. All that torch says: {logged(error)}"
        ) from error
    if not isinstance(module, torch.jit.ScriptModule):
        raise ProgramError(f"Scripting gave a {type(module).__name__}, expected a ScriptModule.")
    return TorchScriptProgram(module, ())
