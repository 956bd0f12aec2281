"""Makes a program of lower precision and measures what it costs in AP.

A lower precision changes answers, so it is a choice that the user names. Its AP stands in the
archive beside fp32's. Where too much is lost, nothing is written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import openvino

from d2serve.export.annotations.evaluation_sets import EvaluationSet, evaluation_set, records_of
from d2serve.export.annotations.expectations import Expectations
from d2serve.export.archive.staging import Staging
from d2serve.export.errors import (
    EvaluationError,
    PrecisionError,
    ProgramError,
    SampleError,
    one_line,
)
from d2serve.export.precision.bf16 import to_bf16
from d2serve.export.precision.int8 import FEWEST_IMAGES, to_int8_within
from d2serve.export.programs.openvino import save
from d2serve.export.programs.program import Program
from d2serve.export.proof.evaluation import (
    LEAST_AP,
    Scores,
    evaluate_one,
    first_test_dataset,
    main_metric,
    near_zero,
)
from d2serve.export.reading.config import ModelConfig
from d2serve.export.reading.image_files import SUFFIXES, read_image_file
from d2serve.export.request import ExportRequest, Progress
from d2serve.handlers.errors import RequestError
from d2serve.handlers.requests.preprocessing import preprocess
from d2serve.handlers.runtimes.cpu_features import slow_precision
from d2serve.handlers.spec.model_spec import ModelSpec
from d2serve.handlers.spec.runtimes import BF16, INT8

_MOST_CALIBRATION_IMAGES = 300
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
    _check_cpu(request.precision)
    if request.precision == INT8:
        _calibration_files(request, config)
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
    files = _calibration_files(request, config) if request.precision == INT8 else []
    progress.begin("Evaluating fp32", count)
    reference = evaluate_one(stage.lay_out(), data, sigmas, None, progress.advance)
    _check_scores(reference, data.name)
    judged: list[tuple[Program, ModelSpec, Scores]] = []

    def drop_of(model: openvino.Model) -> float:
        folder = stage.folder(f"{request.precision}_{len(judged)}")
        lowered = replace(program, main=save(model, folder))
        candidate = replace(spec, precision=request.precision, sha256=lowered.hashes())
        stage.describe(lowered.files, candidate, settings)
        progress.begin(f"Evaluating {request.precision}", count)
        scores = evaluate_one(stage.lay_out(), data, sigmas, None, progress.advance)
        judged.append((lowered, candidate, scores))
        return max(
            reference[task][main_metric(task)] - scores[task][main_metric(task)]
            for task in reference
        )

    how = _first_within(request, program, spec, files, drop_of, progress)
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


def _first_within(
    request: ExportRequest,
    program: Program,
    spec: ModelSpec,
    files: list[Path],
    drop_of: Callable[[openvino.Model], float],
    progress: Progress,
) -> str:
    """Make programs until one loses little enough; returns what stayed more precise."""
    model = openvino.Core().read_model(str(program.main))
    if request.precision == BF16:
        drop = drop_of(to_bf16(model))
        if drop > request.max_ap_drop:
            raise PrecisionError(
                f"bf16 costs {drop:.2f} AP points, {request.max_ap_drop:g} are allowed. Nothing "
                "was written. Allow more (--max-ap-drop), or stay with --precision fp32."
            )
        return "arithmetic on boxes and scores in fp32"
    progress.begin("Reading the calibration images", len(files))
    images = list(_prepared(files, spec, progress))
    progress.begin("Calibrating", 0)
    try:
        _, tried = to_int8_within(model, images, drop_of, request.max_ap_drop)
    except ProgramError as error:
        raise PrecisionError(f"{error} Nothing was written.") from error
    return f"{tried[-1].left_in_float} in bf16, arithmetic on boxes and scores in fp32"


def _check_cpu(precision: str) -> None:
    lacking = slow_precision(
        precision, openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    )
    if lacking:
        raise PrecisionError(
            f"--precision {precision} cannot be measured here: {lacking}, so the program would run "
            "in fp32. Export on a CPU that has them, or use --precision fp32."
        )


def _calibration_files(request: ExportRequest, config: ModelConfig) -> list[Path]:
    """The images for int8: those of the folder that is named, or of the first training data set."""
    folder = request.calibration_images
    if folder is not None:
        files = sorted(f for f in folder.rglob("*") if f.suffix.lower() in SUFFIXES)
        source = str(folder)
    elif config.train_datasets:
        name = config.train_datasets[0]
        files = [Path(record["file_name"]) for record in records_of(name)]
        source = f"the config's training data set, {name}"
    else:
        files, source = [], "the config, which names no training data set"
    if len(files) < FEWEST_IMAGES:
        raise SampleError(
            f"int8 is calibrated on images: got {len(files)} from {source}, expected "
            f"{FEWEST_IMAGES} or more like those that the model will see. Name a folder "
            "of them: --calibration-images DIR"
        )
    # Evenly over the data set, which may be sorted by what it shows.
    step = max(len(files) // _MOST_CALIBRATION_IMAGES, 1)
    return files[::step][:_MOST_CALIBRATION_IMAGES]


def _prepared(
    files: list[Path], spec: ModelSpec, progress: Progress
) -> Iterator[npt.NDArray[np.float32]]:
    for file in files:
        try:
            yield preprocess(read_image_file(file, spec.image_form), spec).tensor
        except (OSError, RequestError) as error:
            raise SampleError(f"{file} cannot be read: {one_line(error)}") from error
        progress.advance()


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
