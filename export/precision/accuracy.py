"""Makes a program of lower precision and measures what it costs in AP.

A lower precision changes answers, so it is a choice that the user names. Its AP stands in the
archive beside fp32's. Where too much is lost, nothing is written.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from d2serve.export.annotations.evaluation_sets import EvaluationSet, evaluation_set
from d2serve.export.annotations.expectations import Expectations
from d2serve.export.archive.staging import Staging
from d2serve.export.errors import EvaluationError
from d2serve.export.precision.lowering import Write, calibration_files, check_cpu, lowered_within
from d2serve.export.programs.program import Program
from d2serve.export.proof.evaluation import (
    LEAST_AP,
    Scores,
    evaluate_one,
    first_test_dataset,
    main_metric,
    near_zero,
)
from d2serve.export.proof.isolated_replay import gpu_id
from d2serve.export.reading.config import ModelConfig
from d2serve.export.request import ExportRequest, Progress
from d2serve.handlers.spec.model_spec import ModelSpec

# One instance of 50 is two AP points of its class, four times what may be lost by default.
_FEWEST_IMAGES, _FEWEST_ANNOTATIONS = 20, 50


@contextmanager
def judged_on(
    request: ExportRequest, config: ModelConfig, expected: Expectations, progress: Progress
) -> Iterator[EvaluationSet]:
    """The data set that a lower precision is judged on, before the long part begins.

    Raises:
        PrecisionError: this CPU cannot run it.
        EvaluationError: it is not there, does not fit the model, or is too small to judge by.
        SampleError: there are not enough images to calibrate on.
    """
    check_cpu(request.precision)
    calibration_files(request, config)
    source = first_test_dataset(config) if request.dataset is None else request.dataset
    with evaluation_set(source, expected) as data:
        _require_enough(data, request.precision)
        for note in data.notes:
            progress.note(note)
        yield data


def lower(
    request: ExportRequest,
    config: ModelConfig,
    data: EvaluationSet,
    stage: Staging,
    program: Program,
    spec: ModelSpec,
    settings: Mapping[str, object],
    progress: Progress,
) -> tuple[Program, ModelSpec]:
    """Make a verified fp32 program cheaper, and measure what that costs.

    Args:
        request: with precision and the AP that may be lost.
        config: the model's.
        data: what it is judged on.
        stage: where the archive is put together; holds the fp32 program.
        program: the fp32 program.
        spec: its spec.
        settings: TorchServe's, of the model.
        progress: is told how far it is.

    Returns:
        The program, and its spec with the AP of both.

    Raises:
        PrecisionError: more AP is lost than is allowed.
        EvaluationError: the data set gives no AP.
    """
    count, sigmas = len(data.records), config.keypoint_oks_sigmas
    files, gpu = calibration_files(request, config), gpu_id(config.device)
    progress.begin("Evaluating fp32", count)
    reference = evaluate_one(stage.lay_out(), data, sigmas, gpu, progress.advance)
    _check_scores(reference, data.name)
    judged: list[tuple[Program, ModelSpec, Scores]] = []

    def drop_of(write: Write) -> float:
        folder = stage.folder(f"{request.precision}_{len(judged)}")
        lowered = replace(program, main=write(folder))
        candidate = replace(spec, precision=request.precision, sha256=lowered.hashes())
        stage.describe(lowered.files, candidate, settings)
        progress.begin(f"Evaluating {request.precision}", count)
        scores = evaluate_one(stage.lay_out(), data, sigmas, gpu, progress.advance)
        judged.append((lowered, candidate, scores))
        return max(
            reference[task][main_metric(task)] - scores[task][main_metric(task)]
            for task in reference
        )

    how = lowered_within(request, program, spec, files, drop_of, progress)
    lowered, candidate, scores = judged[-1]
    accuracy: dict[str, Any] = {
        "dataset": data.name,
        "images": count,
        "how": how,
        "max_ap_drop": request.max_ap_drop,
        "fp32": reference,
        request.precision: scores,
    }
    return lowered, replace(candidate, accuracy=accuracy)


def _require_enough(data: EvaluationSet, precision: str) -> None:
    if data.lacking:
        raise EvaluationError(
            f"{data.name} has nothing to judge {' and '.join(data.lacking)} by, which {precision} "
            f"may ruin while all else stays. {' '.join(data.notes)} Name a data set that has all "
            "that the model answers: --coco-json F --image-root D"
        )
    if len(data.records) < _FEWEST_IMAGES or 0 < data.annotations < _FEWEST_ANNOTATIONS:
        raise EvaluationError(
            f"{data.name} has {len(data.records)} images with {data.annotations} annotations: too "
            f"few to judge {precision} by, since chance moves their AP by more than it may lose. "
            f"Expected {_FEWEST_IMAGES} images with {_FEWEST_ANNOTATIONS} annotations or more: "
            "--coco-json F --image-root D"
        )


def _check_scores(scores: Scores, dataset: str) -> None:
    if low := near_zero(scores):
        raise EvaluationError(
            f"In fp32 the model scores {', '.join(low)} on {dataset}, by which no other precision "
            f"can be judged: expected {LEAST_AP:g} or more. It probably is not the data that the "
            "model was trained for. Name that: --coco-json F --image-root D"
        )
