"""Verifies and evaluates an archive that is already there, on the user's own images.

An export verifies what it writes on one sample image and pictures made of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from d2serve.export.annotations.evaluation_sets import evaluation_set
from d2serve.export.annotations.expectations import expectations_of
from d2serve.export.archive.opening import opened
from d2serve.export.errors import ConfigError, VerificationError
from d2serve.export.failures import in_a_sentence
from d2serve.export.proof.cases import Case, cases_in_detail, plan_cases
from d2serve.export.proof.differences.gallery import Gallery, Seen
from d2serve.export.proof.evaluation import Scores, evaluate, first_test_dataset, near_zero
from d2serve.export.proof.isolated_replay import gpu_id
from d2serve.export.proof.loaded import (
    Loaded,
    cases_of_folder,
    known_names,
    likely_cause,
    load,
    other_preparation,
    spec_in,
)
from d2serve.export.proof.reference import Remembering
from d2serve.export.proof.verification import Verification, measured, verify
from d2serve.export.reading.config import ConfigSource
from d2serve.export.reading.samples import builtin_sample
from d2serve.export.request import Progress
from d2serve.handlers.replies.drawing import Legend
from d2serve.handlers.spec.model_spec import ModelSpec
from d2serve.handlers.spec.runtimes import FP32, RUNTIMES

MOST_PICTURES = 20
"""Of images that differ; who wants more gives fewer images."""


@in_a_sentence
def verify_archive(
    archive: Path,
    source: ConfigSource,
    images: Path | None,
    progress: Progress,
) -> Verification:
    """Compare a .mar with eager detectron2 again, on the user's images or on the built-in sample.

    Args:
        archive: the .mar.
        source: the config, as for the export.
        images: a folder of image files; None takes what the export took.
        progress: is told how far it is.

    Raises:
        ExportError: as for an export.
    """
    progress.begin("Loading the weights", 0)
    loaded = load(source)
    config, oracle = loaded.config, loaded.oracle
    with opened(archive) as model_dir:
        spec = spec_in(archive, model_dir)
        for difference in other_preparation(loaded, spec):
            raise VerificationError(
                f"{difference} Their answers differ for that reason alone. Give the config and "
                "overrides of the export, or export again with these."
            )
        if spec.precision != FP32:
            raise VerificationError(
                f"{archive} is in {spec.precision}, whose answers differ from detectron2's by "
                "design, so they cannot be verified. Compare the AP: `d2serve evaluate`."
            )
        cases, not_reached = _cases(images, loaded, spec, progress)
        return verify(
            model_dir,
            Remembering(oracle),
            cases,
            RUNTIMES[spec.runtime].bounds,
            not_reached=not_reached,
            traced_constants=tuple(spec.verification.get("traced_constants", ())),
            keeps_nms=spec.method in RUNTIMES[spec.runtime].keeps_nms,
            gpu_id=gpu_id(config.device),
            outcome=likely_cause(loaded, source, spec),
            progress=progress.advance,
        )


@dataclass(frozen=True)
class Differences:
    """How an archive's answers and eager detectron2's differ."""

    seen: tuple[Seen, ...]
    """Each image."""
    pictures: tuple[Path, ...]
    """The worst first."""
    precision: str
    """Of the archive."""
    cause: str
    """Why they may differ, by what the archive says it was made of."""

    @property
    def differing(self) -> int:
        """Images whose answers are out of bounds."""
        return sum(bool(each.difference.misses) for each in self.seen)


@in_a_sentence
def diff_archive(
    archive: Path,
    source: ConfigSource,
    images: Path | None,
    output: Path,
    worst: int,
    progress: Progress,
) -> Differences:
    """Show where a .mar and eager detectron2 differ, whatever that is.

    Args:
        archive: the .mar, of any precision.
        source: the config.
        images: a folder of image files; None takes what an export takes.
        output: folder for the pictures, which is made when there are any.
        worst: so many images that differ most are drawn also where they are within bounds.
        progress: is told how far it is.

    Raises:
        ExportError: as for an export; a difference is none.
    """
    progress.begin("Loading the weights", 0)
    loaded = load(source)
    with opened(archive) as model_dir:
        spec = spec_in(archive, model_dir)
        for difference in other_preparation(loaded, spec):
            progress.note(f"{difference} They are compared as they are.")
        cases, _not_reached = _cases(images, loaded, spec, progress)
        bounds = RUNTIMES[spec.runtime].bounds
        gallery = Gallery(Legend.of(spec), bounds, worst or MOST_PICTURES)
        measured(
            model_dir,
            Remembering(loaded.oracle),
            cases,
            bounds,
            gpu_id=gpu_id(loaded.config.device),
            progress=progress.advance,
            see=gallery.see,
        )
        progress.begin("Drawing", 0)
        try:
            pictures = gallery.write(output, within=worst > 0)
        except OSError as error:
            raise ConfigError(
                f"The pictures cannot be written to {output} ({error.strerror or error}): give "
                "another folder with --output."
            ) from error
        cause = likely_cause(loaded, source, spec)
    return Differences(tuple(gallery.seen), tuple(pictures), spec.precision, cause)


@in_a_sentence
def evaluate_archive(
    archive: Path,
    source: ConfigSource,
    coco: tuple[Path, Path] | None,
    progress: Progress,
) -> tuple[Scores, Scores]:
    """COCO AP of eager detectron2 and of a .mar.

    Args:
        archive: the .mar.
        source: the config, as for the export.
        coco: annotation file and image folder; None takes the config's DATASETS.TEST.
        progress: is told how far it is.

    Raises:
        ExportError: as for an export; EvaluationError where the data set is not there.
    """
    progress.begin("Loading the weights", 0)
    loaded = load(source)
    config = loaded.config
    data_source = first_test_dataset(config) if coco is None else coco
    with opened(archive) as model_dir:
        spec = spec_in(archive, model_dir)
        for difference in other_preparation(loaded, spec):
            progress.note(
                f"{difference} Both are evaluated as they are, so the difference is not that of "
                "the program alone."
            )
        expected = expectations_of(
            loaded.model,
            loaded.family,
            config,
            spec.class_names or known_names(loaded),
            spec.stuff_class_names,
        )
        with evaluation_set(data_source, expected) as data:
            for note in data.notes:
                progress.note(note)
            scores = evaluate(
                loaded.oracle,
                model_dir,
                data,
                config.keypoint_oks_sigmas,
                gpu_id(config.device),
                progress.begin,
                progress.advance,
            )
    if low := near_zero(scores[0]):
        progress.note(
            f"Eager detectron2 itself scores {', '.join(low)} on {data.name}. It probably is not "
            "the data that the model was trained for, and a small difference says nothing of the "
            "archive."
        )
    return scores


def _cases(
    images: Path | None, loaded: Loaded, spec: ModelSpec, progress: Progress
) -> tuple[list[Case], tuple[str, ...]]:
    """The images to compare, and the counts of detections for which there is none."""
    not_reached: tuple[str, ...] = ()
    if images is not None:
        cases = cases_of_folder(images, spec.image_form)
    else:
        progress.begin("Choosing images", 0)
        oracle = loaded.oracle
        sample = builtin_sample(oracle.form)
        cases, not_reached = plan_cases(sample, oracle, spec.dynamic_batch)
        cases += cases_in_detail(sample, oracle, spec)
    progress.begin("Comparing with detectron2", 2 * len(cases))
    return cases, not_reached
