"""Traces a model: tensors in, tensors out, in the order that ``model_spec.json`` names."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from detectron2.export.torchscript_patch import patch_builtin_len
from torch import nn
from torch.jit._trace import TracerWarning

from d2serve.export.errors import ProgramError, one_line
from d2serve.export.programs.torchscript_errors import where_in_user_code


class TraceableModel(nn.Module):
    """(channels, H, W) float32 in, a tuple of the named outputs in their order out."""

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


@dataclass(frozen=True)
class TorchScriptProgram:
    """A TorchScript program, with what was noticed while it was made."""

    module: torch.jit.ScriptModule
    traced_constants: tuple[str, ...]
    """Places in the user's code that a trace may have turned into constants."""


def trace(model: nn.Module, outputs: Sequence[str], image: torch.Tensor) -> TorchScriptProgram:
    """Trace a model on one image.

    Args:
        model: of ``rewrites.registry.exportable``, in evaluation mode.
        outputs: names of what the program answers, in its order.
        image: (channels, H, W) float32, as the program will get it, with detections in it.

    Raises:
        ProgramError: naming the line that cannot be traced.
    """
    with recording_tracer_warnings() as caught, torch.no_grad():
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
    return TorchScriptProgram(module, traced_constants_in(caught))


@contextmanager
def recording_tracer_warnings() -> Iterator[list[warnings.WarningMessage]]:
    """Collect what the tracer warns of, for ``traced_constants_in``."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", TracerWarning)
        yield caught


def traced_constants_in(caught: list[warnings.WarningMessage]) -> tuple[str, ...]:
    """Places in the user's code that a trace may have turned into constants.

    detectron2's own warnings are known to be harmless, as ours are; a user's are worth reading.
    """
    places = (
        f"{warning.filename}:{warning.lineno}"
        for warning in caught
        if issubclass(warning.category, TracerWarning)
        and not any(part in warning.filename for part in ("/detectron2/", "/torch", "/d2serve/"))
    )
    return tuple(dict.fromkeys(places))
