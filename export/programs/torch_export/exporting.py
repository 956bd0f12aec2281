"""Exports a model with torch.export: one graph for images of any height and width."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn
from torch.export import Dim, ExportedProgram

from d2serve.export.errors import ProgramError, UnsupportedFamily
from d2serve.export.failures import in_short, logged, nothing_printed
from d2serve.export.programs.torch_export.refusals import why_lost
from d2serve.export.programs.torch_export.stand_ins import graph_of_one_image
from d2serve.export.programs.torchscript_errors import where_in_user_code
from d2serve.export.programs.tracing import TraceableModel
from d2serve.export.reading.family import Family

_OF_THIS_MACHINE = ("stack_trace", "nn_module_stack", "source_fn_stack")
"""What torch notes of each operator: the Python that it came from, by paths of this machine."""


def write_torch_export(
    model: nn.Module,
    family: Family,
    outputs: Sequence[str],
    inputs: tuple[torch.Tensor, ...],
    target: Path,
) -> None:
    """Export a model to a file of torch.export.

    Args:
        model: of ``rewrites.registry.exportable``, in evaluation mode.
        family: what it is and answers.
        outputs: names of what the program answers, in its order.
        inputs: an image with detections in it, alone.
        target: the file to write.

    Raises:
        UnsupportedFamily: something that the model answers would be lost.
        ProgramError: naming the line that cannot be exported.
    """
    lost = why_lost(family)
    if lost is not None:
        raise UnsupportedFamily(lost)
    with graph_of_one_image(family.num_classes or 1):
        program = graph_of(TraceableModel(model, outputs), inputs)
    for node in program.graph.nodes:
        for name in _OF_THIS_MACHINE:
            node.meta.pop(name, None)
    # What it was made on would be in the file, too.
    program.example_inputs = None
    torch.export.save(program, target)


def graph_of(model: TraceableModel, inputs: tuple[torch.Tensor, ...]) -> ExportedProgram:
    """The graph of a model within ``graph_of_one_image``.

    Args:
        model: what is exported.
        inputs: an image with detections in it, and what comes beside it, in fixed sizes.

    Raises:
        ProgramError: naming the line that cannot be exported.
    """
    of_any_size = {1: Dim.DYNAMIC, 2: Dim.DYNAMIC}
    # What comes through a star is one argument.
    beside: tuple[dict[int, object], ...] = tuple({} for _ in inputs[1:])
    with nothing_printed() as printed, torch.no_grad():
        try:
            return torch.export.export(
                model,
                inputs,
                dynamic_shapes=(of_any_size, *([beside] if beside else [])),
                strict=False,  # the strict way reads bytecode, and stops at detectron2's classes
            )
        except Exception as error:
            raise ProgramError(
                f"torch.export cannot take the model: {where_in_user_code(error)}"
                f"{type(error).__name__}: {in_short(error)}. Compute with torch operators on "
                "tensors there, without asking them for numbers, or use --format torchscript. "
                f"All that torch says: {logged(error, printed())}"
            ) from error
