"""The whole way from a config to a verified archive, in one function with one order of steps."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

from d2serve.export.annotations.expectations import expectations_of
from d2serve.export.archive.describing import spec_of
from d2serve.export.archive.installing import install
from d2serve.export.archive.provenance import provenance_of
from d2serve.export.archive.staging import settings_for, staging
from d2serve.export.errors import ConfigError, SampleError, UnsupportedFamily, needing
from d2serve.export.failures import imported, in_a_sentence
from d2serve.export.naming import require_place, require_writable
from d2serve.export.picture.exported import picture_of
from d2serve.export.programs.batches import why_no_batches
from d2serve.export.programs.building import Order, onnx_metadata, write_program
from d2serve.export.programs.carrying import carried
from d2serve.export.programs.doubting.doubts import Doubt
from d2serve.export.programs.tracing import program_inputs
from d2serve.export.programs.unexportable import why_unexportable
from d2serve.export.proof.cases import Case, cases_in_detail, plan_cases
from d2serve.export.proof.comparing.winograd_record import WithWinograd
from d2serve.export.proof.isolated_replay import gpu_id
from d2serve.export.proof.oracle import Oracle
from d2serve.export.proof.provoking import Reach, provoking_images
from d2serve.export.proof.reference import Remembering, count_of
from d2serve.export.proof.reopening import reopen
from d2serve.export.proof.verification import Verification, verify
from d2serve.export.proof.with_winograd import why_not_here, with_winograd
from d2serve.export.reading.config import ModelConfig
from d2serve.export.reading.config_loading import load_config
from d2serve.export.reading.families import family_of
from d2serve.export.reading.family import Family
from d2serve.export.reading.image_files import Pixels
from d2serve.export.reading.image_form import image_form_of
from d2serve.export.reading.names.class_names import find_names
from d2serve.export.reading.names.given import Names
from d2serve.export.reading.names.sources import FoundNames, of_checkpoint
from d2serve.export.reading.own_models.answers import observed
from d2serve.export.reading.samples import load_sample, most_sample_pixels, telling_variants
from d2serve.export.reading.weights import build_model, load_weights
from d2serve.export.request import ExportRequest, Progress
from d2serve.export.result import ExportResult
from d2serve.handlers.spec.model_spec import ModelSpec
from d2serve.handlers.spec.output_names import BOXES, PANOPTIC_SEG, SEM_SEG
from d2serve.handlers.spec.runtimes import FP32, INT8, RUNTIMES


@in_a_sentence
def export(request: ExportRequest, progress: Progress) -> ExportResult:
    """Export, verify and package a model. Nothing is written unless everything holds.

    Raises:
        ExportError: the message says what was wrong and what to do.
    """
    request.check()
    require_place(request.output, request.name, request.version)
    require_writable(request.output)
    _check_installed(request)
    progress.begin("Reading the config", 0)
    config = load_config(request.source)
    _check_gpu(request, config.device)
    model = build_model(config)
    family = family_of(model)
    refusal = why_unexportable(model, RUNTIMES[request.chosen_runtime], request.method)
    if refusal is not None:
        raise UnsupportedFamily(refusal)
    form = replace(image_form_of(model, config), sixteen_bit=request.sixteen_bit)
    most_pixels = most_sample_pixels(config.min_size_test)
    sample = load_sample(request.sample_image, form, most_pixels)

    progress.begin("Loading the weights", 0)
    weights = load_weights(model, config)
    oracle = Oracle(config)
    inputs = oracle.model_input(sample)
    family = observed(family, oracle.model, inputs)
    eager = oracle.predict(sample)
    others = map(oracle.predict, telling_variants(sample))
    family = carried(model, family, eager, others, inputs, request.method)
    if request.method in RUNTIMES[request.chosen_runtime].joining_methods * request.dynamic_batch:
        no_batches = why_no_batches(model, family)
        if no_batches is not None:
            raise UnsupportedFamily(no_batches)
    names = _names(request, config, family, eager, of_checkpoint(weights.beside))
    provenance = provenance_of(request.source, config, weights, names)
    if count_of(oracle.outputs_of(eager, *sample.shape[:2])) == 0:
        raise SampleError(
            f"detectron2 finds nothing in the {'sample' if request.sample_image else 'built-in'} "
            "image above the score threshold, so nothing can be traced or compared. Give an image "
            "with objects that the model knows: --sample-image photo.jpg"
        )

    with ExitStack() as contexts:
        data = None
        if request.precision != FP32:
            from d2serve.export.precision.accuracy import judged_on, lower  # brings pycocotools

            expected = expectations_of(model, family, config, names.classes, names.stuff)
            data = contexts.enter_context(judged_on(request, config, expected, progress))
        stage = contexts.enter_context(staging(request.name, request.version))
        progress.begin(f"Making the program by {request.method}", 0)
        order = Order(
            request,
            model,
            family,
            program_inputs(inputs, family.postprocessed),
            stage.folder("program"),
            onnx_metadata(config, form, family, names, request.dynamic_batch),
        )
        program = write_program(order)
        spec = spec_of(request, config, form, family, names, model, program, provenance)
        device = config.device
        settings = settings_for(spec.dynamic_batch, device)
        stage.describe(program.files, spec, settings)
        verification = _verify(
            stage.lay_out(),
            oracle,
            sample,
            spec,
            program.doubts,
            gpu_id(device),
            request.precision,
            progress,
        )
        spec = replace(spec, verification=verification.to_json())
        if data is not None:
            program, spec = lower(request, config, data, stage, program, spec, settings, progress)
        stage.describe(program.files, spec, settings)
        progress.begin("Packaging", 0)
        picture, no_picture = picture_of(oracle.model, inputs, request.name, family.name)
        if picture is not None:
            stage.picture(picture)
        packed = stage.pack()
        reopen(packed, oracle, sample, gpu_id(device))
        archive = install(packed, request.output, request.name, request.version)
    notes = (*config.notes, *weights.notes, *names.notes, *filter(None, [no_picture]))
    return ExportResult(archive, spec, verification, notes)


def _check_installed(request: ExportRequest) -> None:
    # Before minutes of work, not after.
    facts = RUNTIMES[request.chosen_runtime]
    for package in (facts.package, *facts.made_with(request.method)):
        with needing(package, facts.export_extra):
            imported(package)
    if request.precision == INT8:
        with needing("nncf", "export-openvino"):
            import_module("nncf")


def _check_gpu(request: ExportRequest, device: str) -> None:
    facts = RUNTIMES[request.chosen_runtime]
    if facts.needs_gpu and gpu_id(device) is None:
        raise ConfigError(
            f"--runtime {facts.name} needs a GPU, on which its program is verified; the device is "
            f"{device}. Export on a machine with an NVIDIA GPU, and override it: MODEL.DEVICE cuda"
        )


def _names(
    request: ExportRequest,
    config: ModelConfig,
    family: Family,
    eager: Mapping[str, Any],
    in_checkpoint: FoundNames | None,
) -> Names:
    labels = None
    if SEM_SEG in family.outputs:
        labels = int(eager["sem_seg"].shape[0])
    elif PANOPTIC_SEG in family.outputs:
        labels = family.num_classes
    classes, stuff = request.class_names, request.stuff_class_names
    if family.is_own and labels is not None and labels == family.num_classes:
        # One list for all that it answers, as set predictors have it.
        found = find_names(config, None, labels, None, stuff or classes, in_checkpoint)
        if not family.has_instances:
            return found
        return replace(found, classes=found.stuff, classes_from=found.stuff_from)
    return find_names(config, family.num_classes, labels, classes, stuff, in_checkpoint)


def _verify(
    model_dir: Path,
    oracle: Oracle,
    sample: Pixels,
    spec: ModelSpec,
    doubts: tuple[Doubt, ...],
    gpu: int | None,
    precision: str,
    progress: Progress,
) -> Verification:
    progress.begin("Choosing images", 0)
    cases, not_reached = plan_cases(sample, oracle, spec.dynamic_batch)
    cases += cases_in_detail(sample, oracle, spec)
    most = spec.limits.max_detections
    images, too_many = provoking_images(
        sample,
        doubts,
        Reach(spec.min_size_test, spec.max_size_test, most if BOXES in spec.outputs else 0),
        lambda image: count_of(oracle.answer(image)),
    )
    cases += [Case({name: image}, False) for name, image in images.items()]
    progress.begin("Comparing with detectron2", 2 * len(cases))
    remembering = Remembering(oracle)
    record = verify(
        model_dir,
        remembering,
        cases,
        RUNTIMES[spec.runtime].bounds,
        not_reached=(*not_reached, *too_many),
        traced_constants=tuple(map(str, doubts)),
        keeps_nms=spec.method in RUNTIMES[spec.runtime].keeps_nms,
        gpu_id=gpu,
        progress=progress.advance,
    )
    facts = RUNTIMES[spec.runtime]
    if not facts.takes_winograd_itself or precision != FP32 or gpu is not None:
        return record
    found = WithWinograd(None, why_not_here())
    if not found.note:
        progress.begin("Comparing with Winograd's convolutions", 2 * len(cases))
        found = with_winograd(model_dir, remembering, cases, facts.bounds, progress.advance)
    return replace(record, winograd=found)
