"""Exports a model with torch.export: one graph for images of any height and width."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.export import Dim, ExportedProgram

from d2serve.export.errors import ProgramError
from d2serve.export.failures import in_short, logged, nothing_printed
from d2serve.export.programs.torch_export.stand_ins import graph_of_one_image
from d2serve.export.programs.torchscript_errors import where_in_user_code
from d2serve.export.programs.tracing import TraceableModel

_OF_THIS_MACHINE = ("stack_trace", "nn_module_stack", "source_fn_stack")
"""What torch notes of each operator: the Python that it came from, by paths of this machine."""


def export_program(
    model: nn.Module, outputs: Sequence[str], inputs: tuple[torch.Tensor, ...], num_classes: int
) -> ExportedProgram:
    """The graph of a model.

    Args:
        model: of ``rewrites.registry.exportable``, in evaluation mode.
        outputs: names of what the program answers, in its order.
        inputs: an image with detections in it, alone.
        num_classes: of the instances that the model finds.

    Raises:
        ProgramError: naming the line that cannot be exported.
    """
    with nothing_printed() as printed, graph_of_one_image(num_classes), torch.no_grad():
        try:
            program = torch.export.export(
                TraceableModel(model, outputs),
                inputs,
                dynamic_shapes=({1: Dim.DYNAMIC, 2: Dim.DYNAMIC},),
                strict=False,  # the strict way reads bytecode, and stops at detectron2's classes
            )
        except Exception as error:
            raise ProgramError(
                f"torch.export cannot take the model: {where_in_user_code(error)}"
                f"{type(error).__name__}: {in_short(error)}. Compute with torch operators on "
                "tensors there, without asking them for numbers, or use --format torchscript. "
                f"All that torch says: {logged(error, printed())}"
            ) from error
    for node in program.graph.nodes:
        for name in _OF_THIS_MACHINE:
            node.meta.pop(name, None)
    program.example_inputs = None
    return program
