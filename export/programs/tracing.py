"""Traces a model: tensors in, tensors out, in the order that ``model_spec.json`` names."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch
from detectron2.export.torchscript_patch import patch_builtin_len
from torch import nn

from d2serve.export.errors import ProgramError
from d2serve.export.failures import in_short, logged, nothing_printed
from d2serve.export.programs.device_scan import follow_the_image
from d2serve.export.programs.doubting.doubts import Doubt, watching
from d2serve.export.programs.nms_choice import choosing_nms
from d2serve.export.programs.torchscript_errors import where_in_user_code
from d2serve.handlers.runtimes.details import Details
from d2serve.handlers.spec.extras import INSTANCE, output_name
from d2serve.handlers.spec.output_names import IMAGE_OF_INSTANCE
from d2serve.handlers.spec.program_inputs import (
    BATCH_INPUTS,
    IMAGE_INPUT,
    SIZE_INPUTS,
    input_names,
)

_NOT_THE_USERS = ("builtins", "d2serve", "detectron2", "torch", "torchvision", "fvcore")


class TraceableModel(nn.Module):
    """(channels, H, W) float32 in, a tuple of the named outputs in their order out.

    A model that keeps its own postprocessing takes the height and width of the image as sent, too;
    one that makes details where they are asked for is told where.
    """

    def __init__(
        self, model: nn.Module, outputs: Sequence[str], beside: Sequence[str] = SIZE_INPUTS
    ) -> None:
        """Wrap a model of ``rewrites.registry.exportable``.

        Args:
            model: as that gives it.
            outputs: names of what it answers that is wanted.
            beside: names of what it may be given beside the image.
        """
        super().__init__()
        self.model = model
        self._outputs = tuple(outputs)
        self._beside = tuple(beside)

    def forward(self, image: torch.Tensor, *others: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Raw outputs for one image, in coordinates of the image given, or final ones."""
        given = {IMAGE_INPUT: image, **dict(zip(self._beside, others, strict=False))}
        # Python's own len() would turn the number of instances into a constant.
        with patch_builtin_len(), lengths_as_tensors(self.model):
            fields = self.model([given])[0]
        return tuple(fields[name] for name in self._outputs)


class TraceableBatches(nn.Module):
    """(images, channels, H, W) float32 and (images, 2) int64 in, a tuple of the named outputs out.

    What is of an instance is that of all images, one after the other.
    """

    def __init__(self, model: nn.Module, outputs: Sequence[str]) -> None:
        """Wrap a model of ``rewrites.batches.registry.exportable_in_batches``."""
        super().__init__()
        self.model = model
        self._outputs = tuple(outputs)

    def forward(self, images: torch.Tensor, sizes: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Raw outputs of all images, in coordinates of each image given."""
        with patch_builtin_len(), lengths_as_tensors(self.model):
            fields = self.model([dict(zip(BATCH_INPUTS, (images, sizes)))])[0]
        own = output_name(INSTANCE, IMAGE_OF_INSTANCE)
        return tuple(fields[own if n == IMAGE_OF_INSTANCE else n] for n in self._outputs)


TRACED = TraceableModel.forward.__code__
TRACED_BATCHES = TraceableBatches.forward.__code__
"""What is traced: doubts are looked for in all that it calls."""


def program_inputs(
    given: Mapping[str, torch.Tensor | int], postprocessed: bool
) -> tuple[torch.Tensor, ...]:
    """What a program takes for an image, in its order.

    Args:
        given: the dict that DefaultPredictor gives to the model.
        postprocessed: whether the model keeps its own postprocessing.
    """
    names = input_names(postprocessed, in_detail=False)
    return tuple(torch.as_tensor(given[name]) for name in names)


def detail_inputs(classes: int) -> tuple[torch.Tensor, ...]:
    """What a program that makes details where they are asked for takes after the image, for all."""
    return tuple(map(torch.from_numpy, Details.of_all(classes).inputs))


def batch_inputs(image: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """What a program of batches takes, of two images of different sizes.

    Args:
        image: (channels, H, W), with detections in it.
    """
    height, width = (max(1, side * 7 // 8) for side in image.shape[1:])
    part = torch.zeros_like(image)
    part[:, :height, :width] = image[:, :height, :width]
    sizes = torch.tensor([[image.shape[1], image.shape[2]], [height, width]])
    return torch.stack([image, part]), sizes


@dataclass(frozen=True)
class TorchScriptProgram:
    """A TorchScript program, with what was noticed while it was made."""

    module: torch.jit.ScriptModule
    doubts: tuple[Doubt, ...]
    """Places where the trace made constants of what depends on the image."""


@contextmanager
def lengths_as_tensors(model: nn.Module) -> Iterator[None]:
    """In the packages of the user's own, ``len()`` gives what ``__len__`` gives, as detectron2's.

    Args:
        model: whose classes say which packages these are; functions of any module there may run.
    """
    packages = {
        base.__module__.split(".")[0] for module in model.modules() for base in type(module).__mro__
    }.difference(_NOT_THE_USERS)
    changed = [
        module
        for name, module in list(sys.modules.items())
        if name.split(".")[0] in packages
        and isinstance(module, ModuleType)
        and "len" not in vars(module)
    ]
    for module in changed:
        vars(module)["len"] = _length
    try:
        yield
    finally:
        for module in changed:
            del vars(module)["len"]


def _length(thing: Any) -> Any:
    return thing.__len__()


def trace(
    model: nn.Module,
    outputs: Sequence[str],
    inputs: tuple[torch.Tensor, ...],
    beside: Sequence[str] = SIZE_INPUTS,
) -> TorchScriptProgram:
    """Trace a model on one image.

    Args:
        model: of ``rewrites.registry.exportable``, in evaluation mode.
        outputs: names of what the program answers, in its order.
        inputs: as ``program_inputs`` gives them, of an image with detections in it.
        beside: names of those after the image.

    Raises:
        ProgramError: naming the line that cannot be traced.
    """
    with (
        nothing_printed() as printed,
        watching(TRACED) as doubts,
        choosing_nms(),
        torch.no_grad(),
    ):
        try:
            module = torch.jit.trace(  # type: ignore[no-untyped-call]
                TraceableModel(model, outputs, beside), inputs, check_trace=False
            )
        except Exception as error:
            raise ProgramError(
                f"The model cannot be traced: {where_in_user_code(error)}"
                f"{type(error).__name__}: {in_short(error)}. Compute with torch operators on "
                "tensors there, or try --export-method scripting. All that torch says: "
                f"{logged(error, printed())}"
            ) from error
    # A trace does not name what comes through a star.
    for value, name in zip(list(module.graph.inputs())[1:], (IMAGE_INPUT, *beside), strict=False):
        value.setDebugName(name)
    follow_the_image(module)
    return TorchScriptProgram(module, tuple(doubts))
