"""Why: a trace takes and gives tensors only, and must end before detectron2 pastes the masks.

The wrapper fixes the order of outputs, which ``model_spec.json`` names.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from detectron2.export.torchscript_patch import patch_builtin_len
from detectron2.structures import Boxes
from torch import nn
from torch.jit._trace import TracerWarning

from d2serve.export.errors import ProgramError, one_line
from d2serve.export.families import Family
from d2serve.export.refusals import where_in_user_code


class TraceableDetector(nn.Module):
    """(3, H, W) float32 in, a tuple of the family's outputs in its order out."""

    def __init__(self, model: nn.Module, family: Family) -> None:
        super().__init__()
        self.model = model
        self._family = family

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Raw instances of one image, in coordinates of the image given."""
        inputs = [{"image": image}]
        model = self.model
        # detectron2's own len() would turn the number of instances into a constant.
        with patch_builtin_len():
            if self._family.is_rcnn:
                instances = model.inference(inputs, do_postprocess=False)[0]  # type: ignore[operator]
            else:
                # RetinaNet.forward ends in detector_postprocess, which belongs to the handler.
                images = model.preprocess_image(inputs)  # type: ignore[operator]
                features = model.backbone(images.tensor)  # type: ignore[operator]
                features = [features[name] for name in model.head_in_features]  # type: ignore[union-attr]
                predictions = model.head(features)  # type: ignore[operator]
                instances = model.forward_inference(images, features, predictions)[0]  # type: ignore[operator]
        return tuple(_tensor(instances.get(name)) for name in self._family.outputs)


@dataclass(frozen=True)
class Program:
    """A TorchScript program, with what was noticed while it was made."""

    module: torch.jit.ScriptModule
    doubts: tuple[str, ...]
    """Places in the user's code that a trace may have turned into constants."""


def trace(model: nn.Module, family: Family, image: torch.Tensor) -> Program:
    """Trace a model on one image.

    Args:
        model: detectron2's, in evaluation mode.
        family: what it is.
        image: (3, H, W) float32, as the program will get it, with detections in it.

    Raises:
        ProgramError: naming the line that cannot be traced.
    """
    with watching_for_doubts() as caught, torch.no_grad():
        try:
            module = torch.jit.trace(  # type: ignore[no-untyped-call]
                TraceableDetector(model, family), (image,), check_trace=False
            )
        except Exception as error:
            raise ProgramError(
                f"The model cannot be traced: {where_in_user_code(error)}"
                f"{type(error).__name__}: {one_line(error)}. Compute with torch operators on "
                "tensors there, or try --export-method scripting."
            ) from error
    return Program(module, doubts_of(caught))


def _tensor(value: Boxes | torch.Tensor) -> torch.Tensor:
    return value.tensor if isinstance(value, Boxes) else value


@contextmanager
def watching_for_doubts() -> Iterator[list[warnings.WarningMessage]]:
    """Collect what the tracer warns of, for ``doubts_of``."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", TracerWarning)
        yield caught


def doubts_of(caught: list[warnings.WarningMessage]) -> tuple[str, ...]:
    """Places in the user's code that a trace may have turned into constants.

    detectron2's own warnings are known to be harmless; a user's are worth reading.
    """
    places = (
        f"{warning.filename}:{warning.lineno}"
        for warning in caught
        if issubclass(warning.category, TracerWarning)
        and "/detectron2/" not in warning.filename
        and "/torch" not in warning.filename
    )
    return tuple(dict.fromkeys(places))
