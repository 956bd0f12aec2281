"""Why: the whole way from a config to a proven archive, in one function with one order of steps."""

from __future__ import annotations

import platform
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path

import detectron2
import torch
import torchvision
from detectron2.config import CfgNode
from torch import nn

from d2serve.export.archive import PROGRAM_FILE, install, opened, settings_for, staging
from d2serve.export.comparison import TORCHSCRIPT_BOUNDS
from d2serve.export.config import config_device, load_config
from d2serve.export.device_scan import check_no_device
from d2serve.export.errors import ArchiveError, ConfigError, SampleError
from d2serve.export.families import Family, family_of
from d2serve.export.loading import class_names, load_model
from d2serve.export.oracle import Oracle
from d2serve.export.samples import Pixels, load_sample
from d2serve.export.scripting import script
from d2serve.export.tracing import Program, trace
from d2serve.export.verification import Case, Verification, plan_cases, verify
from d2serve.handlers.errors import LoadError
from d2serve.handlers.model_spec import ModelSpec, read_spec, sha256_of

METHODS = ("tracing", "scripting")

# As torch-model-archiver permits for names, and TorchServe's addresses for both.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_\-.]*")

Report = Callable[[str, int], None]
"""Told the name of each step as it begins, and of how many parts it consists (0: not known)."""


@dataclass(frozen=True)
class ExportRequest:
    """What a user asks for; the fields are the command's options."""

    config_file: str
    method: str
    name: str
    version: str = "1.0"
    overrides: Sequence[str] = ()
    imports: Sequence[str] = ()
    sample_image: Path | None = None
    class_names: Sequence[str] | None = None
    output: Path = Path("model_store")


@dataclass(frozen=True)
class ExportResult:
    """What an export made."""

    archive: Path
    spec: ModelSpec
    verification: Verification


@dataclass(frozen=True)
class Progress:
    """Where an export tells how far it is."""

    begin: Report
    advance: Callable[[], None]


def export(request: ExportRequest, progress: Progress) -> ExportResult:
    """Export, verify and package a model. Nothing is written unless everything holds.

    Raises:
        ExportError: the message says what was wrong and what to do.
    """
    _check_request(request)
    progress.begin("Reading the config", 0)
    cfg = load_config(request.config_file, request.overrides, request.imports)
    family = family_of(cfg)
    names = class_names(cfg, family.num_classes, request.class_names)
    sample = load_sample(request.sample_image)

    progress.begin("Loading the weights", 0)
    model = load_model(cfg)
    oracle = Oracle(cfg)
    if len(oracle.predict(sample)) == 0:
        raise SampleError(
            f"detectron2 finds nothing in the {'sample' if request.sample_image else 'built-in'} "
            "image above the score threshold, so nothing can be traced or compared. Give an image "
            "with objects that the model knows: --sample-image photo.jpg"
        )

    progress.begin(f"{request.method.capitalize()} the model", 0)
    program = _make_program(model, family, request.method, oracle, sample)
    check_no_device(program.module)

    with staging(request.name, request.version) as stage:
        torch.jit.save(program.module, stage.program)
        spec = _spec(request, cfg, family, names, model, sha256_of(stage.program))
        device = config_device(cfg)
        settings = settings_for(spec.dynamic_batch, device)
        stage.describe(spec, settings)
        verification = _verify(
            stage.lay_out(), oracle, sample, spec, program.doubts, device, progress
        )
        spec = replace(spec, verification=verification.to_json())
        stage.describe(spec, settings)
        progress.begin("Packaging", 0)
        packed = stage.pack()
        _reopen(packed, oracle, sample, device)
        archive = install(packed, request.output, request.name)
    return ExportResult(archive, spec, verification)


def _check_request(request: ExportRequest) -> None:
    if request.method not in METHODS:
        raise ConfigError(
            f"--export-method is {request.method!r}, expected one of {', '.join(METHODS)}."
        )
    for option, value in (("--name", request.name), ("--version", request.version)):
        if not _NAME.fullmatch(value):
            raise ConfigError(
                f"{option} is {value!r}, expected letters, digits, '_', '-' and '.' only: it "
                "becomes part of the model's address."
            )


def _make_program(
    model: nn.Module, family: Family, method: str, oracle: Oracle, sample: Pixels
) -> Program:
    if method == "scripting":
        return script(model, family)
    image = oracle.model_input(sample)["image"]
    assert isinstance(image, torch.Tensor)  # the dict has the sizes as well
    return trace(model, family, image)


def _spec(
    request: ExportRequest,
    cfg: CfgNode,
    family: Family,
    names: tuple[str, ...] | None,
    model: nn.Module,
    program_sha256: str,
) -> ModelSpec:
    divisibility = getattr(getattr(model, "backbone", None), "size_divisibility", 0)
    return ModelSpec(
        name=request.name,
        family=family.name,
        method=request.method,
        runtime="torchscript",
        program=PROGRAM_FILE,
        program_sha256=program_sha256,
        image_format=cfg.INPUT.FORMAT,
        min_size_test=cfg.INPUT.MIN_SIZE_TEST,
        max_size_test=cfg.INPUT.MAX_SIZE_TEST,
        size_divisibility=divisibility,
        outputs=family.outputs,
        class_names=names,
        score_thresh=family.score_thresh,
        nms_thresh=family.nms_thresh,
        detections_per_image=cfg.TEST.DETECTIONS_PER_IMAGE,
        mask_threshold=0.5,  # detector_postprocess's default, which DefaultPredictor uses
        dynamic_batch=request.method == "scripting",
        versions=_versions(),
        verification={},
    )


def _versions() -> dict[str, str]:
    try:
        d2serve = metadata.version("d2serve")
    except metadata.PackageNotFoundError:  # run from a source tree that is not installed
        d2serve = "unknown"
    return {
        "d2serve": d2serve,
        "detectron2": str(detectron2.__version__),
        "torch": torch.__version__,
        "torchvision": str(torchvision.__version__),
        "python": platform.python_version(),
    }


def _verify(
    model_dir: Path,
    oracle: Oracle,
    sample: Pixels,
    spec: ModelSpec,
    doubts: tuple[str, ...],
    device: str,
    progress: Progress,
) -> Verification:
    progress.begin("Choosing images", 0)
    cases, not_reached = plan_cases(sample, oracle, spec.dynamic_batch)
    progress.begin("Comparing with detectron2", 2 * len(cases))
    return verify(
        model_dir,
        oracle,
        cases,
        TORCHSCRIPT_BOUNDS,
        not_reached=not_reached,
        doubts=doubts,
        gpu_id=gpu_id(device),
        progress=progress.advance,
    )


def _reopen(archive: Path, oracle: Oracle, sample: Pixels, device: str) -> None:
    with opened(archive) as model_dir:
        try:
            read_spec(model_dir)
        except LoadError as error:
            raise ArchiveError(f"The archive that was written cannot be read: {error}") from error
        verify(
            model_dir,
            oracle,
            [Case({"sample": sample}, False)],
            TORCHSCRIPT_BOUNDS,
            gpu_id=gpu_id(device),
            progress=lambda: None,
        )


def gpu_id(device: str) -> int | None:
    """A device's number as TorchServe gives it to a worker; None is the CPU."""
    found = torch.device(device)
    return (found.index or 0) if found.type == "cuda" else None
