"""Scripts a model: only a scripted program takes a batch of any length and of mixed sizes.

Upstream's export tool types its input as a tuple of one dict; here it is a list. The program
returns dicts of tensors, since ``Instances`` could not be loaded in another process.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from detectron2.export import scripting_with_instances
from detectron2.structures import Boxes
from torch import Tensor, nn

from d2serve.export.errors import ProgramError, UnsupportedFamily
from d2serve.export.failures import in_short, logged, nothing_printed
from d2serve.export.programs.repeatable_scripting import repeatable_scripting
from d2serve.export.programs.torchscript_errors import where_in_script
from d2serve.export.programs.tracing import TorchScriptProgram
from d2serve.export.rewrites.rotated.scripted_boxes import scripted_fields
from d2serve.handlers.spec.extras import INSTANCE, Extra

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


_TYPES = {"Tensor": Tensor, "Boxes": Boxes}
"""Those that TorchScript's Instances can hold, by ``Extra.kind``."""


def types_of(extras: Sequence[Extra]) -> dict[str, type]:
    """The fields of the model's own that Instances carries, as ``FIELDS`` has detectron2's.

    Raises:
        UnsupportedFamily: TorchScript has no form for one.
    """
    fields: dict[str, type] = {}
    for each in extras:
        if each.per == INSTANCE and each.kind not in _TYPES:
            raise UnsupportedFamily(
                f"The field {each.name} of the model's Instances is a {each.kind}, which "
                "TorchScript's Instances cannot hold. Use --export-method tracing."
            )
        if each.per == INSTANCE:
            fields[each.name] = _TYPES[each.kind]
    return fields


def script(model: nn.Module, extras: Sequence[Extra] = ()) -> TorchScriptProgram:
    """Script a model.

    Args:
        model: of ``rewrites.registry.exportable``, in evaluation mode.
        extras: what it answers beyond detectron2's own fields.

    Raises:
        ProgramError: naming the module and line that TorchScript refuses.
    """
    try:
        with nothing_printed(), repeatable_scripting():
            module = scripting_with_instances(
                model, {**FIELDS, **types_of(extras), **scripted_fields(model)}
            )
    except Exception as error:
        raise ProgramError(
            f"The model cannot be scripted: {where_in_script(error)}{in_short(error)}. "
            "Annotate the types of its arguments and use what TorchScript knows, or try "
            f"--export-method tracing. All that torch says: {logged(error)}"
        ) from error
    if not isinstance(module, torch.jit.ScriptModule):
        raise ProgramError(f"Scripting gave a {type(module).__name__}, expected a ScriptModule.")
    return TorchScriptProgram(module, ())
