"""Verifies an archive: its handler and eager detectron2 answer the same images alike.

The handler answers in a fresh process without detectron2. Every difference goes into the record,
and one out of bounds refuses the export: an archive is written only with detectron2's own answers.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from d2serve.export.errors import EagerError, VerificationError
from d2serve.export.programs.nms_choice import noticing_class_by_class
from d2serve.export.proof.cases import Case, expected_of, in_words, options_of
from d2serve.export.proof.comparing.comparison import Difference, compare
from d2serve.export.proof.comparing.winograd_record import WithWinograd
from d2serve.export.proof.differences.gallery import Failures
from d2serve.export.proof.isolated_replay import replay
from d2serve.export.proof.reference import Reference
from d2serve.export.reading.image_files import Pixels, write_image_file
from d2serve.handlers.outputs.records import Outputs
from d2serve.handlers.replies.drawing import Legend
from d2serve.handlers.spec.bounds import Bounds
from d2serve.handlers.spec.convolution import AUTO
from d2serve.handlers.spec.model_spec import read_spec

See = Callable[[Pixels, Outputs, Outputs, Difference], None]
"""Shown an image, detectron2's answer, the archive's, and how far they are apart."""

_OTHER_NMS = (
    " Among more than 1,000 boxes eager detectron2 suppresses class by class (batched_nms in "
    "torchvision/ops/boxes.py), which an ONNX program does not: use --format torchscript."
)


@dataclass(frozen=True)
class Verification:
    """The record of one verification."""

    reference: str
    """What the answers were compared with."""
    bounds: Bounds
    differences: tuple[Difference, ...]
    not_reached: tuple[str, ...]
    """Counts of detections for which no image was found: zero, one, more than a number."""
    traced_constants: tuple[str, ...] = ()
    """Places where a trace made constants of what depends on the image: FILE:LINE (the line)."""
    refused_by_detectron2: tuple[str, ...] = ()
    """Images at which eager detectron2 itself stopped, so that there was nothing to compare."""
    winograd: WithWinograd | None = None
    """None of programs that cannot have them."""

    @property
    def detections(self) -> int:
        """Instances, proposals or labels that were compared in all."""
        return sum(difference.detections for difference in self.differences)

    def to_json(self) -> dict[str, Any]:
        """As it stands in model_spec.json: with lists for tuples."""
        record: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return record


def verify(
    model_dir: Path,
    oracle: Reference,
    cases: Sequence[Case],
    bounds: Bounds,
    *,
    not_reached: tuple[str, ...] = (),
    traced_constants: tuple[str, ...] = (),
    gpu_id: int | None = None,
    outcome: str = "Nothing was written.",
    keeps_nms: bool = True,
    progress: Callable[[], None],
) -> Verification:
    """Compare an extracted archive with a reference, and make sure that they agree.

    Args:
        model_dir: the extracted archive.
        oracle: eager detectron2, or what stands for it.
        cases: the images.
        bounds: within which the answers agree.
        not_reached: goes into the record.
        traced_constants: goes into the record, and is named when the answers differ.
        gpu_id: as TorchServe gives it; None is the CPU.
        outcome: what a difference means, as the error says it.
        keeps_nms: whether the program chooses its NMS for each image, as eager torchvision does.
        progress: called after each case, on either side.

    Raises:
        VerificationError: an answer differs, or nothing was detected on any image.
        EagerError: detectron2 itself stops at every image.
    """
    failures = Failures()
    record, crowded = measured(
        model_dir,
        oracle,
        cases,
        bounds,
        not_reached=not_reached,
        traced_constants=traced_constants,
        gpu_id=gpu_id,
        progress=progress,
        see=failures.see,
    )
    if any(each.misses for each in record.differences):
        outcome += failures.sentence(Legend.of(read_spec(model_dir)), bounds)
    _judge(record, outcome, () if keeps_nms else crowded, oracle.owner)
    return record


def measured(
    model_dir: Path,
    oracle: Reference,
    cases: Sequence[Case],
    bounds: Bounds,
    *,
    not_reached: tuple[str, ...] = (),
    traced_constants: tuple[str, ...] = (),
    gpu_id: int | None = None,
    convolution: str = AUTO,
    progress: Callable[[], None],
    see: See | None = None,
) -> tuple[Verification, Collection[str]]:
    """How far an extracted archive and a reference are apart, whatever that is.

    Args:
        as for ``verify``, and
        convolution: as the model's YAML has it.
        see: is shown each image with both answers, as they are compared.

    Returns:
        The record, and the images on which eager torchvision suppresses class by class.

    Raises:
        VerificationError: the archive does not answer.
        EagerError: detectron2 itself stops at every image.
    """
    expected, eager_seconds = [], []
    answered, refused = [], []
    crowded: set[str] = set()
    for case in cases:
        begun = time.perf_counter()
        try:
            with noticing_class_by_class() as counts:
                expected.append(expected_of(case, oracle))
        except EagerError as error:  # there is nothing to compare with
            refused.append((case, error))
        else:
            answered.append(case)
            crowded.update(case.images if counts else ())
            eager_seconds.append(time.perf_counter() - begun)
        progress()
    if not answered and refused:
        raise refused[0][1]
    cases = answered
    differences: list[Difference] = []
    with tempfile.TemporaryDirectory(prefix="d2serve-verify-") as folder:
        files = [_write(case, Path(folder) / str(index)) for index, case in enumerate(cases)]
        for together in (False, True):
            indices = [i for i, case in enumerate(cases) if case.together == together]
            if not indices:
                continue
            try:
                answers = replay(
                    model_dir,
                    [files[i] for i in indices],
                    options=[[*map(options_of, cases[i].selections())] for i in indices],
                    batching="always" if together else "never",
                    convolution=convolution,
                    gpu_id=gpu_id,
                    eager_seconds=[eager_seconds[i] for i in indices],
                    progress=progress,
                )
            except VerificationError as error:  # a constant may make a program fail, too
                raise VerificationError(f"{error}{_advice(traced_constants)}") from error
            for i, got in zip(indices, answers):
                outputs = [each.to_outputs() for each in got]
                compared = _compare_case(cases[i], expected[i], outputs, bounds)
                differences += compared
                if see is not None:
                    pixels = cases[i].images.values()
                    for each in zip(pixels, expected[i], outputs, compared):
                        see(*each)
    return Verification(
        oracle.reference,
        bounds,
        tuple(differences),
        not_reached,
        traced_constants,
        tuple(" and ".join(case.images) for case, _error in refused),
    ), crowded


def _write(case: Case, folder: Path) -> list[Path]:
    folder.mkdir()
    return [write_image_file(image, folder / name) for name, image in case.images.items()]


def _compare_case(
    case: Case, expected: list[Outputs], got: list[Outputs], bounds: Bounds
) -> list[Difference]:
    label = f"batch of {len(case.images)}: " if case.together else ""
    if case.wanted and bounds.mask_iou == 1:
        # Convolutions may sum a batch of fewer boxes in another order: a mask's pixel, or a
        # heatmap's peak, that lies within rounding of another may move.
        bounds = replace(bounds, mask_iou=0.9999, keypoint_ties=1)
    names = [f"{label}{n}{in_words(s)}" for n, s in zip(case.images, case.selections())]
    return [compare(*each, bounds) for each in zip(names, expected, got)]


def _judge(
    record: Verification,
    outcome: str,
    crowded: Collection[str] = (),
    owner: str = "detectron2",
) -> None:
    missed = [d for d in record.differences if d.misses]
    if missed:
        lines = "; ".join(
            f"{d.image} ({d.height}x{d.width}): {', '.join(d.misses)}" for d in missed[:5]
        )
        advice = _advice(record.traced_constants)
        if not advice and any(d.image in crowded for d in missed):
            advice = _OTHER_NMS
        raise VerificationError(
            f"The program's answer is not {owner}'s on {len(missed)} of "
            f"{len(record.differences)} comparisons: {lines}. {outcome}{advice}"
        )
    if record.detections == 0:
        raise VerificationError(
            f"{owner} finds nothing on any of the images, so there was nothing to compare. Give "
            "images with objects that the model knows: --sample-image, or --images of `verify`."
        )


def _advice(traced_constants: tuple[str, ...]) -> str:
    if not traced_constants:
        return ""
    return (
        " The trace made constants of what depends on the image, at "
        f"{'; '.join(traced_constants)}: compute it with torch operators, or try "
        "--export-method scripting."
    )
