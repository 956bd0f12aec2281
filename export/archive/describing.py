"""Writes down what the server has to know of a program: ``model_spec.json``."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from importlib import import_module, metadata

from torch import nn

from d2serve.export.archive.staging import limits_of
from d2serve.export.programs.program import Program
from d2serve.export.reading.config import ModelConfig
from d2serve.export.reading.family import Family
from d2serve.export.reading.names.given import Names
from d2serve.export.request import ExportRequest
from d2serve.handlers.spec.image_form import ImageForm
from d2serve.handlers.spec.model_spec import ModelSpec
from d2serve.handlers.spec.provenance import Provenance
from d2serve.handlers.spec.runtimes import FP32, RUNTIMES


def spec_of(
    request: ExportRequest,
    config: ModelConfig,
    form: ImageForm,
    family: Family,
    names: Names,
    model: nn.Module,
    program: Program,
    provenance: Provenance,
) -> ModelSpec:
    """What the server has to know of a program, before it is verified."""
    return spec_for(
        program,
        family,
        form,
        names,
        provenance,
        name=request.name,
        method=request.method,
        runtime=request.chosen_runtime,
        dynamic_batch=request.takes_batches,
        min_size_test=config.min_size_test,
        max_size_test=config.max_size_test,
        size_divisibility=getattr(getattr(model, "backbone", None), "size_divisibility", 0),
        made_with=("detectron2", *RUNTIMES[request.chosen_runtime].made_with(request.method)),
    )


def spec_for(
    program: Program,
    family: Family,
    form: ImageForm,
    names: Names,
    provenance: Provenance | None,
    *,
    name: str,
    method: str,
    runtime: str,
    dynamic_batch: bool,
    min_size_test: int,
    max_size_test: int,
    size_divisibility: int,
    made_with: Sequence[str],
) -> ModelSpec:
    """The same of a program from wherever it comes.

    Args:
        made_with: packages beside torch whose versions are recorded.
    """
    return ModelSpec(
        name=name,
        family=family.name,
        method=method,
        runtime=runtime,
        precision=FP32,
        program=program.main.name,
        sha256=program.hashes(),
        image_format=form.image_format,
        channels=form.channels,
        min_size_test=min_size_test,
        max_size_test=max_size_test,
        size_divisibility=size_divisibility,
        outputs=program.outputs,
        extras=family.extras,
        box_mode=family.box_mode,
        class_names=names.classes,
        stuff_class_names=names.stuff,
        panoptic=family.panoptic,
        score_thresh=family.score_thresh,
        nms_thresh=family.nms_thresh,
        detections_per_image=family.detections_per_image,
        limits=limits_of(family),
        mask_threshold=0.5,  # detector_postprocess's default, which DefaultPredictor uses
        dynamic_batch=dynamic_batch,
        rewrites=program.rewrites,
        versions=_versions(made_with),
        verification={},
        accuracy={},
        provenance=provenance,
        postprocessed=family.postprocessed,
        detail_classes=program.detail_classes,
        sixteen_bit=form.sixteen_bit,
    )


def _versions(made_with: Sequence[str]) -> Mapping[str, str]:
    packages = dict.fromkeys((*made_with, "torch", "torchvision"))
    found = {name: str(import_module(name).__version__) for name in packages}
    try:
        ours = metadata.version("d2serve")
    except metadata.PackageNotFoundError:  # run from a source tree that is not installed
        ours = "unknown"
    return {"d2serve": ours, **found, "python": platform.python_version()}
