"""Exports a model to ONNX by tracing it, for ONNX Runtime and OpenVINO.

What every ONNX file of ours says of itself stands here, too, however it is made.

The file also stands alone: the names of inputs and outputs are the spec's, height and width are
dynamic, and its metadata says how an image has to be prepared.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import onnx
import torch
from detectron2.modeling.roi_heads import keypoint_head
from onnx import numpy_helper
from torch import nn

from d2serve.export.errors import ProgramError, one_line
from d2serve.export.failures import in_short, logged, nothing_printed
from d2serve.export.programs.doubting.doubts import Doubt, watching
from d2serve.export.programs.torchscript_errors import where_in_user_code
from d2serve.export.programs.tracing import (
    TRACED,
    TRACED_BATCHES,
    TraceableBatches,
    TraceableModel,
)
from d2serve.handlers.spec.extras import INSTANCE, Extra
from d2serve.handlers.spec.output_names import (
    HEATMAPS,
    KEYPOINTS,
    MASKS,
    OBJECTNESS_LOGITS,
    PANOPTIC_SEG,
    PROPOSAL_BOXES,
    SEGMENTS_INFO,
    SEM_SEG,
)
from d2serve.handlers.spec.program_inputs import (
    BATCH_INPUTS,
    DETAIL_INPUTS,
    IMAGE_INPUT,
    SIZE_INPUTS,
)

# ROIAlign with detectron2's half-pixel alignment came with 16.
OPSET = 17


def write_onnx(
    model: nn.Module,
    outputs: Sequence[str],
    inputs: tuple[torch.Tensor, ...],
    target: Path,
    metadata: Mapping[str, object],
    extras: Sequence[Extra] = (),
    beside: Sequence[str] = SIZE_INPUTS,
    dynamic_batch: bool = False,
) -> tuple[Doubt, ...]:
    """Export a model to a checked ONNX file.

    Args:
        model: of ``rewrites.registry.exportable``, or of ``exportable_in_batches``, in evaluation
            mode.
        outputs: names of what the program answers, in its order.
        inputs: as ``tracing.program_inputs`` or ``batch_inputs`` gives them, of an image with
            detections in it.
        target: the file to write.
        metadata: what else the file says of itself, as JSON values by name.
        extras: those of the outputs that are the model's own.
        beside: names of the inputs after the image. Those of DETAIL_INPUTS have the values that
            they get here in the file, so that whoever has only that need not give them.
        dynamic_batch: whether it takes any number of images in one call.

    Returns:
        Places where the trace made constants of what depends on the image.

    Raises:
        ProgramError: naming the line that cannot be exported.
    """
    names = BATCH_INPUTS if dynamic_batch else (IMAGE_INPUT, *beside)[: len(inputs)]
    traceable: nn.Module = (
        TraceableBatches(model, outputs)
        if dynamic_batch
        else TraceableModel(model, outputs, beside)
    )
    with ExitStack() as stack:
        printed = stack.enter_context(nothing_printed())
        doubts = stack.enter_context(watching(TRACED_BATCHES if dynamic_batch else TRACED))
        stack.enter_context(torch.no_grad())
        if HEATMAPS in outputs:
            stack.enter_context(_ending_at_heatmaps())
        try:
            torch.onnx.export(
                traceable,
                inputs,
                str(target),
                opset_version=OPSET,
                # The other exporter, of torch.export's graphs: torch_export/onnx.py.
                dynamo=False,
                input_names=list(names),
                output_names=list(outputs),
                dynamic_axes=axes_of(outputs, names, extras),
            )
        except Exception as error:
            raise ProgramError(
                f"The model cannot be exported to ONNX: {where_in_user_code(error)}"
                f"{type(error).__name__}: {in_short(error)}. Compute with torch operators that "
                f"ONNX opset {OPSET} has, or use --format torchscript. All that torch says: "
                f"{logged(error, printed())}"
            ) from error
    finish(onnx.load(str(target)), target, metadata, dict(zip(names, inputs, strict=True)))
    return tuple(doubts)


def axes_of(
    outputs: Sequence[str], inputs: Sequence[str], extras: Sequence[Extra] = ()
) -> dict[str, dict[int, str]]:
    """Names of the axes whose length is not known beforehand, by input and output.

    Args:
        outputs: names of what a program answers.
        inputs: names of what it takes.
        extras: those of the outputs that are the model's own.
    """
    own = {each.output: _axes_of_extra(each) for each in extras}
    of_batches = dict(
        zip(BATCH_INPUTS, ({0: "images", 2: "height", 3: "width"}, {0: "images"}), strict=True)
    )
    given = of_batches if BATCH_INPUTS[0] in inputs else {IMAGE_INPUT: {1: "height", 2: "width"}}
    return {
        **given,
        **{name: own[name] if name in own else _axes(name, inputs) for name in outputs},
    }


def _axes(output: str, inputs: Sequence[str]) -> dict[int, str]:
    if BATCH_INPUTS[0] in inputs and output == SEM_SEG:
        return {0: "images", 2: "padded_height", 3: "padded_width"}
    postprocessed = SIZE_INPUTS[0] in inputs
    if DETAIL_INPUTS[0] in inputs and output in (MASKS, KEYPOINTS, HEATMAPS):
        return {0: "instances_in_detail"}
    if postprocessed and output in (SEM_SEG, PANOPTIC_SEG):
        return {0: "image_height", 1: "image_width"}
    if postprocessed and output == MASKS:
        return {0: "instances", 1: "image_height", 2: "image_width"}
    if output == SEGMENTS_INFO:
        return {0: "segments"}
    if output == SEM_SEG:
        return {1: "padded_height", 2: "padded_width"}
    return {0: "proposals" if output in (PROPOSAL_BOXES, OBJECTNESS_LOGITS) else "instances"}


def _axes_of_extra(extra: Extra) -> dict[int, str]:
    first = 1 if extra.per == INSTANCE else 0
    varying = {
        first + index: f"{extra.output}_{index}"
        for index, side in enumerate(extra.shape)
        if side is None
    }
    return {0: "instances", **varying} if first else varying


def finish(
    program: onnx.ModelProto,
    target: Path,
    metadata: Mapping[str, object],
    inputs: Mapping[str, torch.Tensor],
) -> None:
    """Write a program that says of itself how it is used, if onnx's checker lets it pass.

    Args:
        program: it gets the metadata, and defaults for those of DETAIL_INPUTS.
        target: the file to write.
        metadata: JSON values by name.
        inputs: what it was made on, by name.

    Raises:
        ProgramError: it is no valid ONNX.
    """
    for name, tensor in inputs.items():
        if name in DETAIL_INPUTS:  # an input with an initializer may be left out
            program.graph.initializer.append(numpy_helper.from_array(tensor.numpy(), name))
    for name, value in metadata.items():
        text = value if isinstance(value, str) else json.dumps(value)
        program.metadata_props.add(key=name, value=text)
    try:
        onnx.checker.check_model(program, full_check=True)
    except Exception as error:  # the checker and shape inference raise their own
        raise ProgramError(
            f"onnx's checker refuses the exported program ({one_line(error)}). "
            "An operator of your own probably has a wrong ONNX export; use --format torchscript."
        ) from error
    onnx.save(program, str(target))


@contextmanager
def _ending_at_heatmaps() -> Iterator[None]:
    # detectron2's heatmaps_to_keypoints writes in place in a loop, which ONNX cannot express
    # (index_put in structures/keypoints.py). The handler does it: handlers/outputs/keypoints.py.
    before = keypoint_head.heatmaps_to_keypoints
    keypoint_head.heatmaps_to_keypoints = lambda maps, _rois: maps.new_zeros((*maps.shape[:2], 4))
    try:
        yield
    finally:
        keypoint_head.heatmaps_to_keypoints = before


def give_up_defaults(graph: onnx.GraphProto) -> None:
    """Take the values from inputs that have one, in place: other runtimes
    read such for constants."""
    inputs = {each.name for each in graph.input}
    kept = [each for each in graph.initializer if each.name not in inputs]
    del graph.initializer[:]
    graph.initializer.extend(kept)
