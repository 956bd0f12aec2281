"""Makes a program's files: each runtime wants its own, and the rest of an export need not know.

A new runtime is one entry in ``BUILDERS``, beside its entry in handlers/spec/runtimes.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path

import torch
from torch import nn

from d2serve.export.errors import UnsupportedFamily
from d2serve.export.programs.caffe2.refusals import why_lost
from d2serve.export.programs.caffe2.writing import write_caffe2
from d2serve.export.programs.device_scan import check_no_device
from d2serve.export.programs.onnx import write_onnx
from d2serve.export.programs.program import Program
from d2serve.export.programs.scripting import script
from d2serve.export.programs.tensorrt import fit_to_tensorrt
from d2serve.export.programs.torch_export.exporting import write_torch_export
from d2serve.export.programs.tracing import detail_inputs, trace
from d2serve.export.reading.config import ModelConfig
from d2serve.export.reading.families import Family
from d2serve.export.reading.names.given import Names
from d2serve.export.request import ExportRequest
from d2serve.export.rewrites.registry import exportable
from d2serve.handlers.spec.image_form import ImageForm
from d2serve.handlers.spec.output_names import HEATMAPS, KEYPOINTS
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
Builder = Callable[[ExportRequest, nn.Module, Family, Inputs, Path, Mapping[str, object]], Program]
"""Makes the program that ``write_program`` is asked for."""


def write_program(
    request: ExportRequest,
    model: nn.Module,
    family: Family,
    inputs: Inputs,
    folder: Path,
    metadata: Mapping[str, object],
) -> Program:
    """Make the program that a request asks for, in fp32.

    Args:
        request: with its method and runtime.
        model: detectron2's, in evaluation mode.
        family: what it is.
        inputs: as ``tracing.program_inputs`` gives them, of an image with detections in it.
        folder: an empty folder.
        metadata: what an ONNX file says of itself.

    Raises:
        ProgramError: the model cannot be exported this way; the message names the line.
    """
    build = BUILDERS[request.chosen_runtime]
    return build(request, model, family, inputs, folder, metadata)


def _torchscript(
    request: ExportRequest,
    model: nn.Module,
    family: Family,
    inputs: Inputs,
    folder: Path,
    _metadata: Mapping[str, object],
) -> Program:
    ways = request.method, family.postprocessed, family.own_forward
    changed, rewrites = exportable(model, *ways, family.detail_classes is not None)
    if request.method == SCRIPTING:
        made = script(changed, family.extras)
    else:
        made = trace(changed, family.program_outputs, *_with_details(inputs, family))
    check_no_device(made.module)
    main = folder / RUNTIMES[TORCHSCRIPT].main_file
    torch.jit.save(made.module, main)
    return Program(main, family.program_outputs, made.doubts, rewrites, family.detail_classes)


def _with_details(inputs: Inputs, family: Family) -> tuple[Inputs, tuple[str, ...]]:
    """What a program is traced on, and the names of what comes after the image."""
    if family.detail_classes is None:
        return inputs, SIZE_INPUTS
    return (*inputs, *detail_inputs(family.detail_classes)), DETAIL_INPUTS


def _onnx(
    _request: ExportRequest,
    model: nn.Module,
    family: Family,
    inputs: Inputs,
    folder: Path,
    metadata: Mapping[str, object],
) -> Program:
    ways = ONNX, family.postprocessed, family.own_forward
    changed, rewrites = exportable(model, *ways, family.detail_classes is not None)
    outputs = _onnx_outputs(family)
    main = folder / RUNTIMES[ONNXRUNTIME].main_file
    given, beside = _with_details(inputs, family)
    doubts = write_onnx(changed, outputs, given, main, metadata, family.extras, beside)
    return Program(main, outputs, doubts, rewrites, family.detail_classes)


def _tensorrt(
    request: ExportRequest,
    model: nn.Module,
    family: Family,
    inputs: Inputs,
    folder: Path,
    metadata: Mapping[str, object],
) -> Program:
    traced = _onnx(request, model, family, inputs, folder, metadata)
    fit_to_tensorrt(traced.main)
    return traced


def _openvino(
    request: ExportRequest,
    model: nn.Module,
    family: Family,
    inputs: Inputs,
    folder: Path,
    metadata: Mapping[str, object],
) -> Program:
    from d2serve.export.programs.openvino import from_onnx, save  # brings OpenVINO

    traced = _onnx(request, model, family, inputs, folder, metadata)
    converted = from_onnx(traced.main)
    traced.main.unlink()
    return replace(traced, main=save(converted, folder))


def _caffe2(
    _request: ExportRequest,
    model: nn.Module,
    family: Family,
    _inputs: Inputs,
    folder: Path,
    _metadata: Mapping[str, object],
) -> Program:
    lost = why_lost(family)
    if lost is not None:
        raise UnsupportedFamily(lost)
    changed, rewrites = exportable(model, CAFFE2, family.postprocessed, family.own_forward)
    written = write_caffe2(changed, folder)
    return Program(written.main, _with_heatmaps(family), written.doubts, rewrites)


def _tensorflow(
    request: ExportRequest,
    model: nn.Module,
    family: Family,
    inputs: Inputs,
    folder: Path,
    metadata: Mapping[str, object],
) -> Program:
    from d2serve.export.programs.tensorflow.converting import convert  # brings TensorFlow

    # Its converter takes an input with a value in the file for a constant, and it is seldom asked.
    family = replace(family, makes_details=False)
    traced = _onnx(request, model, family, inputs, folder, metadata)
    converted = convert(traced.main)
    traced.main.unlink()
    facts = RUNTIMES[TENSORFLOW]
    if request.frozen:
        converted.freeze(folder / facts.frozen_file)
        return replace(traced, main=folder / facts.frozen_file)
    converted.save(folder)
    return replace(traced, main=folder / facts.main_file)


def _torch_export(
    _request: ExportRequest,
    model: nn.Module,
    family: Family,
    inputs: Inputs,
    folder: Path,
    _metadata: Mapping[str, object],
) -> Program:
    changed, rewrites = exportable(model, TORCH_EXPORT, family.postprocessed, family.own_forward)
    outputs = _with_heatmaps(family)
    main = folder / RUNTIMES[TORCH_EXPORT].main_file
    write_torch_export(changed, family, outputs, inputs, main)
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
    config: ModelConfig, form: ImageForm, family: Family, names: Names
) -> dict[str, object]:
    """What whoever has only the .onnx file must know, in the terms of model_spec.json."""
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
        "input": f"({form.channels}, height, width) float32, 0 to 255, resized as "
        "ResizeShortestEdge does; "
        "normalisation and padding are inside",
        "details": _about_details(family),
        "extras": [asdict(each) for each in family.extras],
        "coordinates": "pixels of the image as it was sent, whose height and width are inputs"
        if family.postprocessed
        else "pixels of the resized image; pred_masks are probabilities over each box",
    }


def _about_details(family: Family) -> str:
    if family.detail_classes is None:
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
