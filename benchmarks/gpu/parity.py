"""Compares programs on a GPU with eager detectron2 on the same GPU, in batches and over TorchServe.

An export on a GPU is verified there before it is written; what it refuses is a row as well. Then
held-out images are asked in batches of mixed sizes, which eager detectron2 gets as the same
batches where the program takes them together, and one after the other of a TorchServe.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from benchmarks.gpu.plan import FORMS, Form, GpuPlan
from benchmarks.shared.errors import BenchError
from d2serve.export.errors import ExportError
from d2serve.export.pipeline import export
from d2serve.export.proof.comparing.comparison import Difference, compare
from d2serve.export.proof.oracle import Oracle
from d2serve.export.reading.config import ConfigSource
from d2serve.export.reading.config_loading import load_config
from d2serve.export.reading.image_files import Pixels
from d2serve.export.request import ExportRequest, Progress
from d2serve.handlers.detector import Detector
from d2serve.handlers.spec.bounds import Bounds
from d2serve.handlers.spec.runtimes import RUNTIMES
from d2serve.server.torchserve.process import TorchServeProcess

_MODELS = Path("examples/shapes/models")


@dataclass(frozen=True)
class ParityRow:
    """One model in one form."""

    model: str
    form: str
    refused: str
    """Why there is no program; otherwise empty, and the rest is said."""
    images: int = 0
    """Answers that were compared, those over TorchServe included."""
    detections: int = 0
    outside: int = 0
    """Answers that are not within the form's bounds."""
    box_px: float = 0.0
    score: float = 0.0
    masks_differing: int = 0
    accuracy: str = ""
    """What a lower precision costs, as its archive says."""


@dataclass(frozen=True)
class _Subject:
    """A model, and what it is asked."""

    model: str
    source: ConfigSource
    oracle: Oracle
    files: Sequence[Path]
    images: Sequence[Pixels]
    """Of the files."""


def parity(
    plan: GpuPlan,
    files: Sequence[Path],
    annotations: Path,
    folder: Path,
    advance: Callable[[], None],
) -> Iterator[ParityRow]:
    """A row for each model and form of the plan.

    Args:
        plan: of the run.
        files: images that no model was trained on.
        annotations: of these images, in COCO's format: what fp16 is judged by.
        folder: where archives go.
        advance: called after each row.

    Raises:
        BenchError: eager detectron2 finds nothing at all, so that nothing would be compared.
    """
    images: list[Pixels] = [np.asarray(Image.open(file).convert("RGB")) for file in files]
    for model in plan.models:
        source = ConfigSource(str(_MODELS / f"{model}.yaml"), ["MODEL.DEVICE", plan.device])
        subject = _Subject(model, source, Oracle(load_config(source)), files, images)
        for name in plan.forms:
            yield _row(plan, subject, name, annotations, folder)
            advance()


def _row(plan: GpuPlan, subject: _Subject, name: str, annotations: Path, folder: Path) -> ParityRow:
    form, model = FORMS[name], subject.model
    request = ExportRequest(
        source=subject.source,
        name=f"{model}_{name}",
        output=folder,
        dataset=(annotations, subject.files[0].parent),
        **form.export,  # type: ignore[arg-type]  # names of its fields
    )
    try:
        result = export(request, Progress(lambda _step, _parts: None, lambda: None))
    except ExportError as error:
        return ParityRow(model, name, str(error))
    bounds = RUNTIMES[result.spec.runtime].bounds
    differences = [
        *_in_batches(plan, result.archive, subject, bounds),
        *_over_torchserve(plan, result.archive, subject, bounds),
    ]
    if not any(each.detections for each in differences):
        raise BenchError(f"Eager detectron2 finds nothing with {model}: nothing was compared.")
    return ParityRow(
        model,
        name,
        "",
        images=len(differences),
        detections=sum(each.detections for each in differences),
        outside=sum(bool(each.misses) for each in differences),
        box_px=max(each.box_px for each in differences),
        score=max(each.score for each in differences),
        masks_differing=sum(each.masks_differing for each in differences),
        accuracy=_cost(form, result.spec.accuracy),
    )


def _in_batches(
    plan: GpuPlan, archive: Path, subject: _Subject, bounds: Bounds
) -> Iterator[Difference]:
    oracle = subject.oracle
    with Detector.open(archive, device=plan.device) as detector:
        for size in plan.batches:
            batch = list(subject.images[:size])
            if detector.answers_together:
                expected = oracle.answer_batch(batch)
            else:
                expected = [oracle.answer(image) for image in batch]
            got = detector(batch)
            for index, (theirs, ours) in enumerate(zip(expected, got)):
                yield compare(f"image {index} of {size}", theirs, ours, bounds)


def _over_torchserve(
    plan: GpuPlan, archive: Path, subject: _Subject, bounds: Bounds
) -> Iterator[Difference]:
    on_gpu = torch.device(plan.device).type == "cuda"
    overrides = {"number_of_gpu": "1" if on_gpu else "0"}
    name = archive.stem
    with TorchServeProcess([f"{name}={archive}"], overrides=overrides) as server:
        (described,) = server.management.describe(name)
        if on_gpu and not all(worker.uses_gpu for worker in described.workers):
            raise BenchError(f"TorchServe gave {name} no GPU: {described.workers}")
        for image, file in zip(subject.images, subject.files):
            answer = server.http.predict(name, file)
            where = f"{file.name} over TorchServe"
            yield compare(where, subject.oracle.answer(image), answer.to_outputs(), bounds)


def _cost(form: Form, accuracy: object) -> str:
    if form.precision == "fp32" or not isinstance(accuracy, dict):
        return ""
    both = accuracy["fp32"], accuracy[form.precision]
    return ", ".join(
        f"{task} AP {both[0][task]['AP']:.2f} to {both[1][task]['AP']:.2f}" for task in both[0]
    )
