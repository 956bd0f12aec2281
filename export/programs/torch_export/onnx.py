"""Makes an ONNX file of torch.export's graph of a model, for ONNX Runtime and OpenVINO.

torch's exporter of graphs does without TorchScript, on which the tracing one stands. Inputs,
outputs, their axes and the metadata are those of a traced file.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import onnx
import torch
from torch import nn

from d2serve.export.errors import ProgramError, UnsupportedFamily
from d2serve.export.failures import in_short, logged, nothing_printed
from d2serve.export.programs.onnx import axes_of, finish
from d2serve.export.programs.torch_export.exporting import graph_of
from d2serve.export.programs.torch_export.refusals import why_lost
from d2serve.export.programs.torch_export.stand_ins import graph_of_one_image
from d2serve.export.programs.tracing import TraceableModel
from d2serve.export.reading.family import Family
from d2serve.handlers.spec.program_inputs import IMAGE_INPUT, SIZE_INPUTS

OPSET = 18
"""The one that torch's exporter of graphs writes."""


def write_onnx_of_graph(
    model: nn.Module,
    family: Family,
    outputs: Sequence[str],
    inputs: tuple[torch.Tensor, ...],
    target: Path,
    metadata: Mapping[str, object],
    beside: Sequence[str] = SIZE_INPUTS,
) -> None:
    """Export a model to a checked ONNX file, without tracing it.

    Args:
        model: of ``rewrites.registry.exportable``, in evaluation mode.
        family: what it is and answers.
        outputs: names of what the program answers, in its order.
        inputs: an image with detections in it, and what comes beside it.
        target: the file to write.
        metadata: what else the file says of itself, as JSON values by name.
        beside: names of the inputs after the image, with defaults as in ``write_onnx``.

    Raises:
        UnsupportedFamily: something that the model answers would be lost.
        ProgramError: naming the line, or the operator, that cannot be exported.
    """
    lost = why_lost(family)
    if lost is not None:
        raise UnsupportedFamily(lost)
    names = (IMAGE_INPUT, *beside)[: len(inputs)]
    with graph_of_one_image(family.num_classes or 1):
        graph = graph_of(TraceableModel(model, outputs, beside), inputs)
        program = converted(graph, names, outputs)
    _forget_the_making(program)
    _name_axes([*program.graph.input, *program.graph.output], axes_of(outputs, names))
    finish(program, target, metadata, dict(zip(names, inputs, strict=True)))


def converted(
    graph: torch.export.ExportedProgram, inputs: Sequence[str], outputs: Sequence[str]
) -> onnx.ModelProto:
    """The graph in ONNX, within ``graph_of_one_image``.

    Raises:
        ProgramError: naming the operator that ONNX does not have.
    """
    with nothing_printed() as printed, torch.no_grad():
        try:
            made = torch.onnx.export(
                graph,
                dynamo=True,
                opset_version=OPSET,
                input_names=list(inputs),
                output_names=list(outputs),
                verbose=False,
            )
        except Exception as error:
            raise ProgramError(
                f"torch's graph of the model cannot be written as ONNX: {type(error).__name__}: "
                f"{in_short(error)}. Compute with torch operators that ONNX opset {OPSET} has, or "
                f"use --export-method tracing. All that torch says: {logged(error, printed())}"
            ) from error
    assert made is not None  # it is where no file is named
    proto: onnx.ModelProto = made.model_proto
    return proto


def _forget_the_making(program: onnx.ModelProto) -> None:
    """Drop what torch notes of each node, by paths of this machine, and of values in between."""
    for noted in (program, program.graph, *program.graph.node, *program.graph.initializer):
        del noted.metadata_props[:]
        noted.doc_string = ""
    del program.graph.value_info[:]


def _name_axes(
    values: Iterable[onnx.ValueInfoProto], axes: Mapping[str, Mapping[int, str]]
) -> None:
    """Give the axes whose length is not known beforehand the names that a traced file has."""
    for value in values:
        for index, side in enumerate(value.type.tensor_type.shape.dim):
            if side.HasField("dim_param"):
                side.dim_param = axes[value.name][index]
