"""Makes a program's files: each runtime wants its own, and the rest of an export need not know.

A new runtime is one entry in ``BUILDERS``, beside its entry in handlers/spec/runtimes.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from torch import nn

from d2serve.export.errors import UnsupportedFamily
from d2serve.export.programs.caffe2.refusals import why_lost
from d2serve.export.programs.caffe2.writing import write_caffe2
from d2serve.export.programs.device_scan import check_no_device
from d2serve.export.programs.doubting.doubts import Doubt
from d2serve.export.programs.onnx import write_onnx
from d2serve.export.programs.program import Program
from d2serve.export.programs.scripting import script
from d2serve.export.programs.tensorrt import fit_to_tensorrt
from d2serve.export.programs.torch_export.exporting import write_torch_export
from d2serve.export.programs.torch_export.onnx import write_onnx_of_graph
from d2serve.export.programs.tracing import batch_inputs, detail_inputs, trace
from d2serve.export.reading.config import ModelConfig
from d2serve.export.reading.families import Family
from d2serve.export.reading.names.given import Names
from d2serve.export.request import ExportRequest
from d2serve.export.rewrites.batches.registry import exportable_in_batches
from d2serve.export.rewrites.registry import exportable
from d2serve.handlers.spec.image_form import ImageForm
from d2serve.handlers.spec.output_names import (
    HEATMAPS,
    IMAGE_OF_INSTANCE,
    KEYPOINTS,
    answers_of_batches,
)
from d2serve.handlers.spec.program_inputs import DETAIL_INPUTS, SIZE_INPUTS
from d2serve.handlers.spec.runtimes import (
    CAFFE2,
    ONNX,
    ONNXRUNTIME,
    OPENVINO,
    RUNTIMES,
    SCRIPTING,
    TENSORFLOW,
    TENSORRT,
    TORCH_EXPORT,
    TORCHSCRIPT,
)

Inputs = tuple[torch.Tensor, ...]


@dataclass(frozen=True)
class Order:
    """What a program is made of."""

    request: ExportRequest
    """With its method and runtime."""
    model: nn.Module
    """detectron2's, in evaluation mode."""
    family: Family
    inputs: Inputs
    """As ``tracing.program_inputs`` gives them, of an image with detections in it."""
    folder: Path
    """An empty one."""
    metadata: Mapping[str, object]
    """What an ONNX file says of itself."""


Builder = Callable[[Order], Program]
"""Makes the program of an order, in fp32."""


def write_program(order: Order) -> Program:
    """Make the program that a request asks for, in fp32.

    Raises:
        ProgramError: the model cannot be exported this way; the message names the line.
    """
    return BUILDERS[order.request.chosen_runtime](order)


def _torchscript(order: Order) -> Program:
    method, family = order.request.method, order.family
    changed, rewrites = _exportable(order, method, family.detail_classes)
    if method == SCRIPTING:
        made = script(changed, family.extras)
    else:
        made = trace(changed, family.program_outputs, *_with_details(order))
    check_no_device(made.module)
    main = order.folder / RUNTIMES[TORCHSCRIPT].main_file
    torch.jit.save(made.module, main)
    return Program(main, family.program_outputs, made.doubts, rewrites, family.detail_classes)


def _exportable(
    order: Order, way: str, detail_classes: int | None = None
) -> tuple[nn.Module, tuple[str, ...]]:
    """The model rewritten for a way, with the names of the rewrites."""
    ends = order.family.postprocessed, order.family.own_forward
    return exportable(order.model, way, *ends, in_detail=detail_classes is not None)


def _with_details(order: Order) -> tuple[Inputs, tuple[str, ...]]:
    """What a program is traced on, and the names of what comes after the image."""
    if order.family.detail_classes is None:
        return order.inputs, SIZE_INPUTS
    return (*order.inputs, *detail_inputs(order.family.detail_classes)), DETAIL_INPUTS


def _onnx(order: Order) -> Program:
    outputs = _onnx_outputs(order.family)
    main = order.folder / RUNTIMES[ONNXRUNTIME].main_file
    if order.request.dynamic_batch:
        changed, rewrites = exportable_in_batches(order.model)
        given, answered = batch_inputs(order.inputs[0]), answers_of_batches(outputs)
        doubts = write_onnx(changed, answered, given, main, order.metadata, dynamic_batch=True)
        return Program(main, outputs, doubts, rewrites, detail_classes=None)
    changed, rewrites = _exportable(order, ONNX, order.family.detail_classes)
    given, beside = _with_details(order)
    family, metadata, doubts = order.family, order.metadata, tuple[Doubt, ...]()
    if order.request.method == TORCH_EXPORT:
        write_onnx_of_graph(changed, family, outputs, given, main, metadata, beside)
    else:
        doubts = write_onnx(changed, outputs, given, main, metadata, family.extras, beside)
    return Program(main, outputs, doubts, rewrites, family.detail_classes)


def _tensorrt(order: Order) -> Program:
    traced = _onnx(order)
    fit_to_tensorrt(traced.main)
    return traced


def _openvino(order: Order) -> Program:
    from d2serve.export.programs.openvino import from_onnx, save  # brings OpenVINO

    traced = _onnx(order)
    converted = from_onnx(traced.main)
    traced.main.unlink()
    return replace(traced, main=save(converted, order.folder))


def _caffe2(order: Order) -> Program:
    lost = why_lost(order.family)
    if lost is not None:
        raise UnsupportedFamily(lost)
    changed, rewrites = _exportable(order, CAFFE2)
    written = write_caffe2(changed, order.folder)
    return Program(written.main, _with_heatmaps(order.family), written.doubts, rewrites)


def _tensorflow(order: Order) -> Program:
    from d2serve.export.programs.tensorflow.converting import convert  # brings TensorFlow

    # Its converter takes an input with a value in the file for a constant, and it is seldom asked.
    traced = _onnx(replace(order, family=replace(order.family, makes_details=False)))
    converted = convert(traced.main)
    traced.main.unlink()
    facts = RUNTIMES[TENSORFLOW]
    if order.request.frozen:
        converted.freeze(order.folder / facts.frozen_file)
        return replace(traced, main=order.folder / facts.frozen_file)
    converted.save(order.folder)
    return replace(traced, main=order.folder / facts.main_file)


def _torch_export(order: Order) -> Program:
    changed, rewrites = _exportable(order, TORCH_EXPORT)
    outputs = _with_heatmaps(order.family)
    main = order.folder / RUNTIMES[TORCH_EXPORT].main_file
    write_torch_export(changed, order.family, outputs, order.inputs, main)
    return Program(main, outputs, (), rewrites)


BUILDERS: dict[str, Builder] = {
    TORCHSCRIPT: _torchscript,
    ONNXRUNTIME: _onnx,
    OPENVINO: _openvino,
    TENSORRT: _tensorrt,
    CAFFE2: _caffe2,
    TENSORFLOW: _tensorflow,
    TORCH_EXPORT: _torch_export,
}
"""By the runtime that the program is for."""


def onnx_metadata(
    config: ModelConfig,
    form: ImageForm,
    family: Family,
    names: Names,
    dynamic_batch: bool,
) -> dict[str, object]:
    """What whoever has only the .onnx file must know, in the terms of model_spec.json."""
    one = f"({form.channels}, height, width) float32, 0 to 255, resized as ResizeShortestEdge does"
    batch = (
        f"images: (N, {one[1:]}, each in the upper left with anything beyond it; sizes: (N, 2) "
        f"int64, the height and width of each; the image of an instance is {IMAGE_OF_INSTANCE}"
    )
    return {
        "family": family.name,
        "image_format": form.image_format,
        "min_size_test": config.min_size_test,
        "max_size_test": config.max_size_test,
        "outputs": list(_onnx_outputs(family)),
        "class_names": names.classes and list(names.classes),
        "stuff_class_names": names.stuff and list(names.stuff),
        "score_thresh": family.score_thresh,
        "nms_thresh": family.nms_thresh,
        "input": f"{batch if dynamic_batch else one}; normalisation and padding are inside",
        "details": _about_details(None if dynamic_batch else family.detail_classes),
        "extras": [asdict(each) for each in family.extras],
        "coordinates": "pixels of the image as it was sent, whose height and width are inputs"
        if family.postprocessed
        else "pixels of the resized image; pred_masks are probabilities over each box",
    }


def _about_details(detail_classes: int | None) -> str:
    if detail_classes is None:
        return "masks and keypoints, where the model has them, are of all instances"
    return (
        f"masks and keypoints are of the first {DETAIL_INPUTS[1]} instances whose score is above "
        f"{DETAIL_INPUTS[0]} of their class; both may be left out, and then they are of all"
    )


def _onnx_outputs(family: Family) -> tuple[str, ...]:
    if family.is_own or family.postprocessed:
        return family.program_outputs  # heads of one's own need not have heatmaps
    return _with_heatmaps(family)


def _with_heatmaps(family: Family) -> tuple[str, ...]:
    return tuple(HEATMAPS if name == KEYPOINTS else name for name in family.program_outputs)
