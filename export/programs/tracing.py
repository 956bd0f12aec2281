"""Traces a model: tensors in, tensors out, in the order that ``model_spec.json`` names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from detectron2.export.torchscript_patch import patch_builtin_len
from torch import nn

from d2serve.export.errors import ProgramError, one_line
from d2serve.export.programs.doubts import Doubt, watching
from d2serve.export.programs.nms_choice import choosing_nms
from d2serve.export.programs.torchscript_errors import where_in_user_code


class TraceableModel(nn.Module):
    """(3, H, W) float32 in, a tuple of the named outputs in their order out."""

    def __init__(self, model: nn.Module, outputs: Sequence[str]) -> None:
        """Wrap a model of ``rewrites.registry.exportable``."""
        super().__init__()
        self.model = model
        self._outputs = tuple(outputs)

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Raw outputs for one image, in coordinates of the image given."""
        # detectron2's own len() would turn the number of instances into a constant.
        with patch_builtin_len():
            fields = self.model([{"image": image}])[0]
        return tuple(fields[name] for name in self._outputs)


TRACED = TraceableModel.forward.__code__
"""What is traced: doubts are looked for in all that it calls."""


@dataclass(frozen=True)
class TorchScriptProgram:
    """A TorchScript program, with what was noticed while it was made."""

    module: torch.jit.ScriptModule
    doubts: tuple[Doubt, ...]
    """Places where the trace made constants of what depends on the image."""


def trace(model: nn.Module, outputs: Sequence[str], image: torch.Tensor) -> TorchScriptProgram:
    """Trace a model on one image.

    Args:
        model: of ``rewrites.registry.exportable``, in evaluation mode.
        outputs: names of what the program answers, in its order.
        image: (3, H, W) float32, as the program will get it, with detections in it.

    Raises:
        ProgramError: naming the line that cannot be traced.
    """
    with watching(TRACED) as doubts, choosing_nms(), torch.no_grad():
        try:
            module = torch.jit.trace(  # type: ignore[no-untyped-call]
                TraceableModel(model, outputs), (image,), check_trace=False
            )
        except Exception as error:
            raise ProgramError(
                f"The model cannot be traced: {where_in_user_code(error)}"
                f"{type(error).__name__}: {one_line(error)}. Compute with torch operators on "
                "tensors there, or try --export-method scripting."
            ) from error
    return TorchScriptProgram(module, tuple(doubts))
